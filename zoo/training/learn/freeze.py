"""The backbone held still while only the classifier learns; which part of a model is its classifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from zoo.errors import OptionInvalid

if TYPE_CHECKING:
    from zoo.records.config import TrainConfig


def classifier_of(model: torch.nn.Module) -> torch.nn.Module:
    """Return the last layer of a backbone: what timm's `get_classifier()` gives, or `pretrained_cfg` names.

    Raises:
        OptionInvalid: it tells neither.
    """
    name = getattr(model, "pretrained_cfg", {}).get("classifier")
    if isinstance(name, str) and name in dict(model.named_modules()):
        return model.get_submodule(name)
    getter = getattr(model, "get_classifier", None)
    found = getter() if callable(getter) else None
    if isinstance(found, tuple | list):
        found = torch.nn.ModuleList(found)
    if not isinstance(found, torch.nn.Module) or not list(found.parameters()):
        raise OptionInvalid(
            "this model does not tell which layer is its classifier (get_classifier(), or classifier in its "
            "pretrained_cfg), so that its backbone cannot be frozen; leave --freeze and --probe out"
        )
    return found


@dataclass(frozen=True, kw_only=True)
class Freezing:
    """When a model's backbone stands still."""

    frozen: bool = False
    unfreeze_epoch: int = 0
    """Whole epochs that it does; 0 means all."""
    norms_rest: bool = False
    """Whether running statistics of norms stand still in all epochs."""

    def begin_epoch(self, model: torch.nn.Module, epoch: int) -> None:
        """Put a model into training mode for an epoch, counted from 0.

        Parameters that stand still get no gradient, which every optimizer passes over; norms with running statistics
        keep them. (timm's `freeze` exchanges the norms for others, which could not be unfrozen with the same weights.)
        """
        model.train()
        if self.norms_rest:
            for module in model.modules():
                if getattr(module, "running_mean", None) is not None:
                    module.eval()
        if not self.frozen:
            return
        still = epoch < self.unfreeze_epoch or not self.unfreeze_epoch
        free = set(classifier_of(model).modules())
        for module in model.modules():
            if module in free:
                continue
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(not still)
            if still and getattr(module, "running_mean", None) is not None:
                module.eval()


def check_classifier(model: torch.nn.Module, config: TrainConfig) -> None:
    """Raise OptionInvalid if the options need a model's classifier, and it does not tell which layer that is."""
    fits = config.probe or config.head == "probe"
    if config.freeze or fits:
        found = classifier_of(model)
        if fits and not isinstance(found, torch.nn.Linear):
            what, mend = ("--probe", "use --freeze backbone") if config.probe else ("head = probe", "leave it out")
            raise OptionInvalid(
                f"{what} fits a linear layer, and the classifier of {config.model} is a {type(found).__name__}; {mend}"
            )
