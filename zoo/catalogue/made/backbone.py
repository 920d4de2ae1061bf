"""A model name -> its backbone, built by whichever plugin owns it and checked against the contract."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zoo.catalogue.calling import blaming
from zoo.catalogue.options import OFFERED_BY_ZOO, check, options_of
from zoo.contracts.preprocess import Preprocess
from zoo.errors import CheckpointInvalid, ContractBroken, OptionInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch

    from zoo.catalogue import BackboneChoice, Catalogue
    from zoo.contracts.plugins import BackboneFamily


RESERVED = OFFERED_BY_ZOO | {"name", "num_classes"}


@dataclass(frozen=True, kw_only=True)
class BackboneRequest:
    """What a backbone is asked for."""

    num_classes: int
    """Width of the head."""
    pretrained: bool = False
    """Whether the plugin is to find pretrained weights; `weights` takes their place."""
    weights: Mapping[str, torch.Tensor] | None = None
    """A state dict to start from; a head of another width is left new."""
    image_size: int = 0
    """Pixels of the square input; 0 means the backbone's own."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The user's, for this backbone."""


def build_backbone(
    catalogue: Catalogue, choice: BackboneChoice, request: BackboneRequest
) -> tuple[torch.nn.Module, Preprocess]:
    """Return the backbone, float [N, 3, H, W] to logits [N, num_classes], and how it likes its pixels.

    Raises:
        WeightsUnavailable, OptionInvalid, CheckpointInvalid: what the plugin says of the request.
        ContractBroken: it returned something that is no such module.
        PluginBroken: it raised something that is no ZooError.
    """
    backbone, preprocess = _made(catalogue, choice, request)
    _check_contract(backbone, preprocess, request.num_classes, f"model {choice.name!r}")
    return backbone, preprocess


def outline(
    catalogue: Catalogue, choice: BackboneChoice, request: BackboneRequest
) -> tuple[torch.nn.Module, Preprocess]:
    """Return the same without a number in it, where the network allows that: its shapes and facts, to be told only."""
    import torch

    try:
        with torch.device("meta"):
            return _made(catalogue, choice, request)
    except Exception:  # some networks compute with their weights while they are made
        return _made(catalogue, choice, request)


def _made(catalogue: Catalogue, choice: BackboneChoice, request: BackboneRequest) -> tuple[torch.nn.Module, Preprocess]:
    owner = f"model {choice.name!r}"
    for name in RESERVED & request.options.keys():
        raise OptionInvalid(f"{name} is no option of {owner}; `zoo train --help` lists what sets it")
    with blaming(choice.plugin, f"to make {owner}"):
        backbone = (
            _family_member(catalogue.family(choice.plugin), choice, request)
            if choice.member
            else _plain(catalogue.load(choice.plugin), choice, request)
        )
    cfg = getattr(backbone, "pretrained_cfg", {})
    return backbone, Preprocess.from_pretrained_cfg(cfg, image_size=request.image_size or None)


def parameter_count(model: torch.nn.Module) -> int:
    """Return how many trainable numbers a model has."""
    return sum(p.numel() for p in model.parameters())


def _family_member(family: BackboneFamily, choice: BackboneChoice, request: BackboneRequest) -> torch.nn.Module:
    return family.create(
        choice.member,
        request.num_classes,
        pretrained=request.pretrained,
        weights=request.weights,
        image_size=request.image_size or None,
        **request.options,
    )


def _plain(make: Callable[..., torch.nn.Module], choice: BackboneChoice, request: BackboneRequest) -> torch.nn.Module:
    keywords = check(request.options, options_of(make), f"model {choice.name!r}")
    offered = {"pretrained": request.pretrained and request.weights is None, "image_size": request.image_size or None}
    parameters = inspect.signature(make).parameters
    keywords |= {name: value for name, value in offered.items() if name in parameters and value is not None}
    backbone = make(request.num_classes, **keywords)
    if request.weights is not None:
        _load_matching(backbone, request.weights, choice.name)
    return backbone


def _load_matching(backbone: torch.nn.Module, weights: Mapping[str, torch.Tensor], name: str) -> None:
    """Load what fits by name and shape; a head of another width stays new, anything else missing is an error."""
    own = backbone.state_dict()
    fitting = {key: value for key, value in weights.items() if key in own and own[key].shape == value.shape}
    reshaped = [key for key in weights if key in own and key not in fitting]
    missing = [key for key in own if key not in weights]
    if missing or len(reshaped) > 2:
        first = (missing or reshaped)[0]
        raise CheckpointInvalid(f"the weights do not fit model {name!r}: {first} is missing or of another shape")
    backbone.load_state_dict(fitting, strict=False)


def _check_contract(backbone: object, preprocess: Preprocess, num_classes: int, owner: str) -> None:
    import torch

    if not isinstance(backbone, torch.nn.Module):
        raise ContractBroken(f"{owner} is a {type(backbone).__name__}, not a torch.nn.Module")
    height, width = preprocess.size
    was_training = backbone.training
    backbone.eval()
    try:
        with torch.inference_mode():
            logits = backbone(torch.zeros(2, 3, height, width))
    except Exception as exc:
        reason = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        raise OptionInvalid(
            f"{owner} cannot take images of {height} x {width}: {reason}; try another --image-size"
        ) from exc
    finally:
        backbone.train(was_training)
    if not isinstance(logits, torch.Tensor) or tuple(logits.shape) != (2, num_classes):
        got = list(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ContractBroken(f"{owner} must give logits [2, {num_classes}] for 2 images, got {got}")
