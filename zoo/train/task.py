"""What a model learns: one label an image, or several. Each knows its loss, what is right, and its figures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch

from zoo.labels import DEFAULT_THRESHOLD, mean_average_precision

if TYPE_CHECKING:
    import numpy as np


class Tally(Protocol):
    """Takes the validation split batch by batch, and tells what it came to."""

    def add(self, logits: torch.Tensor, target: torch.Tensor) -> None:
        """Take float32 [n, C] and the target of these n images."""

    def figures(self) -> dict[str, float]:
        """Return "loss", unweighted and unsmoothed, the figure that decides which epoch is best, and others."""


class Task(Protocol):
    """All that differs between the two."""

    @property
    def classes(self) -> int: ...
    @property
    def multi_label(self) -> bool: ...
    @property
    def loss(self) -> torch.nn.Module:
        """Logits [n, C] and a target, also a mixed one, to the mean over the batch: weighted and smoothed."""

    @property
    def counted(self) -> str:
        """Name of the share of training images that were right."""

    @property
    def watched(self) -> str:
        """Name of the validation figure that decides which epoch is best; ties go to the lower loss."""

    def target(self, labels: np.ndarray) -> torch.Tensor:
        """Make the loss's target of a batch's labels."""

    def right(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return bool [n]; of a mixed image the labels that weigh more than half count."""

    def tally(self) -> Tally:
        """Return a fresh one."""


@dataclass
class _OneLabelTally:
    loss: torch.Tensor = field(default_factory=lambda: torch.zeros(()))
    right: torch.Tensor = field(default_factory=lambda: torch.zeros(()))
    images: int = 0

    def add(self, logits: torch.Tensor, target: torch.Tensor) -> None:
        self.loss = self.loss.to(logits.device) + torch.nn.functional.cross_entropy(logits, target, reduction="sum")
        self.right = self.right.to(logits.device) + (logits.argmax(1) == target).sum()
        self.images += len(target)

    def figures(self) -> dict[str, float]:
        return {"loss": float(self.loss) / self.images, "top1": float(self.right) / self.images}


class OneLabel:
    """Every image has exactly one label; cross-entropy, top-1."""

    multi_label = False
    counted = watched = "top1"

    def __init__(self, classes: int, *, smoothing: float = 0.0, weights: torch.Tensor | None = None) -> None:
        """Take the number of classes, the label smoothing in 0..1, and float32 [C] weights of the classes."""
        self.classes = classes
        self.loss = torch.nn.CrossEntropyLoss(weight=weights, label_smoothing=smoothing)

    def target(self, labels: np.ndarray) -> torch.Tensor:
        """Return int64 [n]."""
        return torch.from_numpy(labels)

    def right(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Tell where the largest logit is that of the label, or, of float [n, C], of the heaviest."""
        return logits.argmax(1) == (target if target.ndim == 1 else target.argmax(1))

    def tally(self) -> Tally:
        """Return one for loss and top-1."""
        return _OneLabelTally()


@dataclass
class _SeveralLabelsTally:
    logits: list[torch.Tensor] = field(default_factory=list)
    targets: list[torch.Tensor] = field(default_factory=list)

    def add(self, logits: torch.Tensor, target: torch.Tensor) -> None:
        self.logits.append(logits)
        self.targets.append(target)

    def figures(self) -> dict[str, float]:
        logits, target = torch.cat(self.logits).cpu(), torch.cat(self.targets).cpu()
        said = logits.sigmoid() >= DEFAULT_THRESHOLD
        return {
            "loss": float(torch.nn.functional.binary_cross_entropy_with_logits(logits, target)),
            "map": mean_average_precision(target.numpy(), logits.sigmoid().numpy()),
            "exact": float((said == (target == 1)).all(1).double().mean()),
        }


class _SmoothedBinaryCrossEntropy(torch.nn.BCEWithLogitsLoss):
    """What timm's loss does with `smooth_dense`, which only its newest versions have: labels move towards 0.5."""

    def __init__(self, smoothing: float, weights: torch.Tensor | None) -> None:
        super().__init__(pos_weight=weights)
        self.smoothing = smoothing

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return super().forward(logits, target * (1 - self.smoothing) + self.smoothing / 2)


class SeveralLabels:
    """An image has any number of labels; binary cross-entropy for each, mean average precision.

    While it trains, a label is said from a probability of 0.5 on: thresholds are tuned once, for the best weights.
    """

    multi_label = True
    counted = "exact"
    watched = "map"

    def __init__(self, classes: int, *, smoothing: float = 0.0, weights: torch.Tensor | None = None) -> None:
        """Take the number of labels, the smoothing towards 0.5, and float32 [C] weights of the positive images."""
        self.classes = classes
        self.loss = _SmoothedBinaryCrossEntropy(smoothing, weights)

    def target(self, labels: np.ndarray) -> torch.Tensor:
        """Return float32 [n, C]."""
        return torch.from_numpy(labels).float()

    def right(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Tell where all labels of an image are right."""
        return ((logits.sigmoid() >= DEFAULT_THRESHOLD) == (target > 0.5)).all(1)

    def tally(self) -> Tally:
        """Return one for loss, mAP and exact match."""
        return _SeveralLabelsTally()


def make_task(
    classes: int, *, multi_label: bool, smoothing: float = 0.0, weights: torch.Tensor | None = None
) -> OneLabel | SeveralLabels:
    """Return the one that the data asks for."""
    kind = SeveralLabels if multi_label else OneLabel
    return kind(classes, smoothing=smoothing, weights=weights)
