"""The training losses besides cross-entropy: binary ones that see each class as a question of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable


class FocalLoss(torch.nn.Module):
    """Binary cross-entropy in which what is easy counts less, by torchvision, summed over the classes.

    Method: Lin et al., "Focal Loss for Dense Object Detection" (ICCV 2017, arXiv 1708.02002), with gamma 2. Classes
    are balanced by their weights and not by its alpha.
    """

    pos_weight: torch.Tensor | None

    def __init__(self, pos_weight: torch.Tensor | None = None) -> None:
        """Take float32 [C] weights of the positive images."""
        super().__init__()
        self.register_buffer("pos_weight", pos_weight)

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the mean over the batch, from float [n, C] and a target of the same shape in 0..1."""
        from torchvision.ops import sigmoid_focal_loss

        each: torch.Tensor = sigmoid_focal_loss(logits, target, alpha=-1, gamma=2)
        if self.pos_weight is not None:
            each = each * (1 + (self.pos_weight - 1) * target)
        return each.sum(1).mean()


class OneHot(torch.nn.Module):
    """Gives a binary loss the target that it needs where an image has one label: smoothed as timm does it."""

    def __init__(self, loss: torch.nn.Module, classes: int, smoothing: float) -> None:
        """Take the loss, the number of classes, and the smoothing towards all of them alike."""
        super().__init__()
        self.loss = loss
        self.classes = classes
        self.smoothing = smoothing

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Take float [n, C] and a target int64 [n], or a mixed one float [n, C]."""
        if target.ndim == 1:
            target = torch.nn.functional.one_hot(target, self.classes)
        smoothed = target.float() * (1 - self.smoothing) + self.smoothing / self.classes
        loss: torch.Tensor = self.loss(logits.float(), smoothed)
        return loss


class TowardsHalf(torch.nn.Module):
    """Smooths labels of which an image has several towards 0.5: timm's `smooth_dense`, which only its newest has."""

    def __init__(self, loss: torch.nn.Module, smoothing: float) -> None:
        """Take the loss and the smoothing."""
        super().__init__()
        self.loss = loss
        self.smoothing = smoothing

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Take float [n, C] and a target of the same shape in 0..1."""
        loss: torch.Tensor = self.loss(logits, target * (1 - self.smoothing) + self.smoothing / 2)
        return loss


def _binary(pos_weight: torch.Tensor | None) -> torch.nn.Module:
    return torch.nn.BCEWithLogitsLoss(pos_weight=pos_weight)


BINARY: dict[str, Callable[[torch.Tensor | None], torch.nn.Module]] = {"bce": _binary, "focal": FocalLoss}
"""Losses that see each class as a question of its own: name -> what makes one of float32 [C] weights of the positive
images. Each takes float [n, C] logits and a target of the same shape in 0..1."""
