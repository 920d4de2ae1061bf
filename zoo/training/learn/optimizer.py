"""The optimizer by its name in timm, its weight decay, and learning rates that fall from layer to layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.errors import OptionInvalid, first_line
from zoo.training.learn.optimizer_names import unknown_optimizer

if TYPE_CHECKING:
    import torch

    from zoo.records.config import TrainConfig

FUSED = frozenset({"adam", "adamw"})
"""One kernel a group. PyTorch's fused SGD is left out: it fails where some parameters begin to move later."""


USUAL = "adamw"


def check_optimizer(config: TrainConfig) -> None:
    """Raise OptionInvalid for an optimizer unknown to timm, in need of second derivatives, or without what is set."""
    name = config.optimizer
    # The usual one is known without timm, whose import takes seconds, or fails and is then told by its backbones.
    if name == USUAL and len(config.betas) in (0, 2):
        return
    from timm.optim import get_optimizer_info, list_optimizers

    known = [str(found) for found in list_optimizers()]
    if name not in known:
        raise OptionInvalid(unknown_optimizer(name, known))
    info = get_optimizer_info(name)
    if info.second_order:
        raise OptionInvalid(f"--optimizer {name} needs second derivatives, which are not computed here; try adamw")
    # The factory leaves out, without a word, what an optimizer lacks.
    betas = info.num_betas if info.has_betas else 0
    if config.betas and len(config.betas) != betas:
        given, mend = ",".join(map(str, config.betas)), f"{betas}; give as many" if betas else "none; leave it out"
        raise OptionInvalid(f"betas = {given}: --optimizer {name} has {mend}")
    if config.opt_eps and not info.has_eps:
        raise OptionInvalid(f"opt_eps = {config.opt_eps}: --optimizer {name} has none; leave it out")


def make_optimizer(model: torch.nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return the optimizer, with weight decay on weights only, not on norms and biases.

    With `layer_decay` each group has an `lr_scale`: 1 for the classifier, and less by that factor with each layer
    below it (Clark et al., "ELECTRA", ICLR 2020, arXiv 2003.10555; Bao et al., "BEiT", arXiv 2106.08254).

    Args:
        model: On its device, all parameters trainable.
        config: `optimizer`, `lr`, `weight_decay`, `momentum`, `betas`, `opt_eps` and `layer_decay` are read.

    Raises:
        OptionInvalid: an optimizer that cannot be made here, or a model whose layers timm cannot tell apart.
    """
    from timm.optim import create_optimizer_v2

    check_optimizer(config)
    more: dict[str, Any] = {"fused": True} if config.optimizer in FUSED else {}
    more |= {name: value for name, value in {"betas": config.betas, "eps": config.opt_eps}.items() if value}
    try:
        optimizer: torch.optim.Optimizer = create_optimizer_v2(
            model,
            opt=config.optimizer,
            lr=config.lr,
            weight_decay=config.weight_decay,
            momentum=config.momentum,
            layer_decay=config.layer_decay if config.layer_decay < 1 else None,
            **more,
        )
    except Exception as exc:  # each family says in its own way that a GPU or a package is missing
        raise OptionInvalid(f"--optimizer {config.optimizer} cannot be used here: {first_line(exc)}") from exc
    if config.layer_decay < 1 and len({group["lr_scale"] for group in optimizer.param_groups}) == 1:
        raise OptionInvalid(
            f"layer_decay = {config.layer_decay}: timm cannot tell the layers of {config.model} apart; leave it at 1"
        )
    return optimizer
