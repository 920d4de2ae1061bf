"""The optimizer by its name in timm, its weight decay, and learning rates that fall from layer to layer."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from zoo.errors import OptionInvalid, first_line

if TYPE_CHECKING:
    import torch

    from zoo.config import TrainConfig

FUSED = frozenset({"adam", "adamw"})
"""One kernel a group. PyTorch's fused SGD is left out: it fails where some parameters begin to move later."""


USUAL = "adamw"


def check_optimizer(name: str) -> None:
    """Raise OptionInvalid for an optimizer that timm does not know, or that needs more than a backward pass."""
    # The usual one is known without timm, whose import takes seconds, or fails and is then told by its backbones.
    if name == USUAL:
        return
    from timm.optim import get_optimizer_info, list_optimizers

    known = [str(found) for found in list_optimizers()]
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "common ones are adamw, sgd, adam, rmsprop and lion"
        raise OptionInvalid(f"timm knows no optimizer {name!r}; {hint}")
    if get_optimizer_info(name).second_order:
        raise OptionInvalid(f"--optimizer {name} needs second derivatives, which are not computed here; try adamw")


def make_optimizer(model: torch.nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return the optimizer, with weight decay on weights only, not on norms and biases.

    With `layer_decay` each group has an `lr_scale`: 1 for the classifier, and less by that factor with each layer
    below it (Clark et al., "ELECTRA", ICLR 2020, arXiv 2003.10555; Bao et al., "BEiT", arXiv 2106.08254).

    Args:
        model: On its device, all parameters trainable.
        config: `optimizer`, `lr`, `weight_decay`, `momentum` and `layer_decay` are read.

    Raises:
        OptionInvalid: an optimizer that cannot be made here, or a model whose layers timm cannot tell apart.
    """
    from timm.optim import create_optimizer_v2

    check_optimizer(config.optimizer)
    more: dict[str, Any] = {"fused": True} if config.optimizer in FUSED else {}
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
