"""Structured pruning: whole channels cut out of a trained network by torch-pruning, and what that cost learned again.

Methods: Fang et al., "DepGraph: Towards Any Structural Pruning" (CVPR 2023, arXiv 2301.12900), whose graph tells which
channels of which layers must go together; of each such group those with the smallest weights go (Li et al., "Pruning
Filters for Efficient ConvNets", ICLR 2017, arXiv 1608.08710). The unpruned network then teaches the rest.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from zoo.errors import EnvironmentBroken, ExportUnsupported, first_line
from zoo.records.manifest import Pruning
from zoo.records.trained import shipped_model
from zoo.training.assemble import set_up
from zoo.training.learn.freeze import classifier_of
from zoo.training.learn.loop import fit
from zoo.training.machine.choose import choose
from zoo.training.machine.world import ALONE
from zoo.training.parts import find_parts
from zoo.training.settle import settle
from zoo.training.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo.records.config import TrainConfig
    from zoo.records.trained import Trained

INSTALL = '--prune needs the package torch-pruning; run `pip install "edgezoo[prune]"`'
MULTIPLE = 8
"""Layers keep a multiple of so many channels, which is what kernels compute at once."""


def prune(trained: Trained, share: float, epochs: int, note: Callable[[str], None]) -> tuple[torch.nn.Module, Pruning]:
    """Return a run's backbone with fewer channels, trained again, and what that made of it.

    Args:
        trained: The run; nothing of it moves.
        share: Of the channels of each layer, in 0..1, that go.
        epochs: Of training afterwards, with the run's own recipe, the rate falling from the start.
        note: Takes a line for the user on each thing done.

    Raises:
        ExportUnsupported: torch-pruning cannot do it to this network.
        EnvironmentBroken: torch-pruning is not installed.
    """
    before = shipped_model(trained.catalogue, trained.run)[1]
    thinner = cut(before, share, trained.preprocess.size, trained.record.model)
    size = trained.preprocess.size
    (macs_before, parameters_before), (macs, parameters) = counts(before, size), counts(thinner, size)
    note(f"pruned {100 * (1 - macs / macs_before):.0f} % of its products, {epochs} epochs to learn again")
    if epochs:
        thinner = _recovered(trained, thinner, epochs, note)
    facts = Pruning(
        share=share,
        epochs=epochs,
        parameters_before=parameters_before,
        parameters=parameters,
        macs_before=macs_before,
        macs=macs,
    )
    return thinner.cpu().eval().requires_grad_(False), facts


def cut(backbone: torch.nn.Module, share: float, size: tuple[int, int], name: str = "the model") -> torch.nn.Module:
    """Return a copy with fewer channels: the classifier keeps its outputs, attention its heads.

    Args:
        backbone: float32 [N, 3, H, W] to logits [N, C].
        share: Of the channels of each layer, in 0..1; what is left is a multiple of 8.
        size: H and W.
        name: For the error.

    Raises:
        ExportUnsupported: torch-pruning cannot follow the network, or finds nothing to cut.
        EnvironmentBroken: torch-pruning is not installed.
    """
    library = _library()
    thinner = copy.deepcopy(backbone).eval().requires_grad_(True)
    image = torch.zeros(1, 3, *size)
    classes = backbone(image).shape[1]
    try:
        with warnings.catch_warnings():
            # That a scale of channels is cut together with them is what we want.
            warnings.filterwarnings("ignore", message="Unwrapped parameters", category=UserWarning)
            pruner = library.pruner.BasePruner(
                thinner,
                image,
                library.importance.GroupMagnitudeImportance(p=2),
                pruning_ratio=share,
                pruning_ratio_dict=_shares(thinner, share),
                round_to=MULTIPLE,
                ignored_layers=[classifier_of(thinner), *_attention(thinner)],
                # Its defaults are dictionaries that it writes to.
                in_channel_groups={},
                out_channel_groups={},
                num_heads={},
            )
            pruner.step()
            fits = thinner(torch.cat([image, image])).shape == (2, classes)
    except Exception as exc:  # its graph raises whatever comes up
        raise ExportUnsupported(f"--prune cannot be done to {name}: {first_line(exc)}; leave it out") from exc
    # Some keep in evaluation what they have computed, and drop it as they train.
    thinner.train().eval()
    if not fits or _parameters(thinner) == _parameters(backbone):
        raise ExportUnsupported(f"--prune finds no channels to cut in {name} by {share:g}; leave it out")
    return thinner


def counts(model: torch.nn.Module, size: tuple[int, int]) -> tuple[int, int]:
    """Return multiplications of one image of this height and width, and parameters."""
    macs, parameters = _library().utils.count_ops_and_params(model, torch.zeros(1, 3, *size))
    return int(macs), int(parameters)


def _shares(model: torch.nn.Module, share: float) -> dict[Any, float]:
    """Return for each layer the share nearest to the wanted one that leaves a multiple of channels."""
    found: dict[Any, float] = {}
    for part in model.modules():
        if isinstance(part, torch.nn.Conv2d | torch.nn.Linear):
            channels = part.weight.shape[0]
            left = max(MULTIPLE, MULTIPLE * round((1 - share) * channels / MULTIPLE))
            found[part] = max(0.0, 1 - left / channels)
    return found


def _attention(model: torch.nn.Module) -> list[torch.nn.Module]:
    """Return what computes with heads: how their channels belong together stands in its code, not in the graph."""
    return [part for part in model.modules() if hasattr(part, "num_heads")]


def _recovered(trained: Trained, thinner: torch.nn.Module, epochs: int, note: Callable[[str], None]) -> torch.nn.Module:
    """Train on, and return the network with the weights of the best epoch."""
    config = _recipe(trained, epochs)
    rule: Any = trained.record.chosen.get("split_rule", "rank")
    parts = find_parts(trained.catalogue, config, replace(choose(config), split_rule=rule), Watch())
    parts = replace(parts, backbone=thinner)
    parts = parts.with_chosen(settle(parts, config, note))
    torch.manual_seed(config.seed)
    state, plan = set_up(parts, config, ALONE)
    best: dict[str, torch.Tensor] = {}
    for result in fit(state, parts.loaders, plan):
        figure = result.val[plan.task.watched]
        note(f"learning again, epoch {result.epoch}/{epochs}: val {plan.task.watched} {figure:.4f}")
        if result.best:
            best = copy.deepcopy(state.weights_to_ship().state_dict())
    thinner.load_state_dict(best)
    return thinner


def _recipe(trained: Trained, epochs: int) -> TrainConfig:
    start = {"pretrained": False, "weights": "", "parent": "", "qat": False, "freeze": "", "probe": False}
    start |= {"head": "random"}
    # Measured: a lower rate than the run's recovers less, and so does no teacher.
    falling = {"schedule": "cosine", "warmup_epochs": 0.0, "image_size_start": 0, "layer_decay": 1.0}
    rest = {"epochs": epochs, "patience": 0, "teacher": str(trained.run.path.resolve()), "license_allow": ()}
    one = {"fsdp": False, "sync_batchnorm": False, "compile": False, "device": "auto"}
    return trained.config.model_copy(update={**start, **falling, **rest, **one})


def _parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _library() -> Any:
    try:
        import torch_pruning
    except ImportError as exc:
        raise EnvironmentBroken(INSTALL) from exc
    return torch_pruning
