"""What a model learns: one label an image, or several. Each knows its loss, what is right, and its figures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
import torch

from zoo.errors import OptionInvalid
from zoo.evaluation.labels import DEFAULT_THRESHOLD
from zoo.evaluation.metrics import classification_metrics, label_metrics, mean_average_precision
from zoo.training.learn.loss import BINARY, OneHot, TowardsHalf

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zoo.records.options import Loss

LOSS = "loss"
"""The figure of which less is better."""


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

    def score(self, figures: Mapping[str, float]) -> float:
        """Return that figure so that higher is better."""

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


@dataclass
class _MoreFigures:
    """A tally that keeps everything, for a figure which only the whole split gives."""

    plain: Tally
    watched: str
    multi_label: bool
    probabilities: list[torch.Tensor] = field(default_factory=list)
    targets: list[torch.Tensor] = field(default_factory=list)

    def add(self, logits: torch.Tensor, target: torch.Tensor) -> None:
        self.plain.add(logits, target)
        self.probabilities.append(logits.sigmoid() if self.multi_label else logits.softmax(1))
        self.targets.append(target)

    def figures(self) -> dict[str, float]:
        labels, found = torch.cat(self.targets).cpu().numpy(), torch.cat(self.probabilities).cpu().numpy()
        return {**self.plain.figures(), self.watched: more_figures(labels, found)[self.watched]}


def more_figures(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Return every figure in 0..1 that `zoo eval` tells, from int64 [N] or uint8 [N, C], and float32 [N, C]."""
    names = [str(index) for index in range(probabilities.shape[1])]
    if labels.ndim == 1:
        found = classification_metrics(labels, probabilities, names)
    else:
        found = label_metrics(labels, probabilities, names, np.full(len(names), DEFAULT_THRESHOLD))
    return {name: value for name, value in found.items() if isinstance(value, float) and name != LOSS}


class _Watched:
    """Which figure decides, and a tally that has it."""

    classes: int
    multi_label: bool
    counted: str
    plain: ClassVar[tuple[str, ...]]

    def __init__(self, classes: int, monitor: str) -> None:
        self.classes = classes
        self.watched = monitor or self.plain[0]
        if self.watched not in (*self.plain, LOSS):
            labels = np.arange(classes)
            known = more_figures(np.eye(classes, dtype=np.uint8) if self.multi_label else labels, np.eye(classes))
            if self.watched not in known:
                names = ", ".join(sorted({*known, LOSS}))
                raise OptionInvalid(f"--monitor {monitor} is no figure of this run; it has {names}")

    def score(self, figures: Mapping[str, float]) -> float:
        """Return the figure that decides, turned round if less of it is better."""
        return -figures[LOSS] if self.watched == LOSS else figures[self.watched]

    def _tally(self, plain: Tally) -> Tally:
        return plain if self.watched in (*self.plain, LOSS) else _MoreFigures(plain, self.watched, self.multi_label)


class OneLabel(_Watched):
    """Every image has exactly one label; cross-entropy or a binary loss of each class, top-1."""

    multi_label = False
    counted = "top1"
    plain = ("top1",)

    def __init__(
        self,
        classes: int,
        *,
        smoothing: float = 0.0,
        weights: torch.Tensor | None = None,
        loss: Loss = "auto",
        monitor: str = "",
    ) -> None:
        """Take the number of classes, the label smoothing in 0..1, and float32 [C] weights of the classes."""
        super().__init__(classes, monitor)
        self.loss: torch.nn.Module
        if loss in BINARY:
            self.loss = OneHot(BINARY[loss](weights), classes, smoothing)
        else:
            self.loss = torch.nn.CrossEntropyLoss(weight=weights, label_smoothing=smoothing)

    def target(self, labels: np.ndarray) -> torch.Tensor:
        """Return int64 [n]."""
        return torch.from_numpy(labels)

    def right(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Tell where the largest logit is that of the label, or, of float [n, C], of the heaviest."""
        return logits.argmax(1) == (target if target.ndim == 1 else target.argmax(1))

    def tally(self) -> Tally:
        """Return one for loss, top-1, and what is watched besides."""
        return self._tally(_OneLabelTally())


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


class SeveralLabels(_Watched):
    """An image has any number of labels; binary cross-entropy or focal loss for each, mean average precision.

    While it trains, a label is said from a probability of 0.5 on: thresholds are tuned once, for the best weights.
    """

    multi_label = True
    counted = "exact"
    plain = ("map", "exact")

    def __init__(
        self,
        classes: int,
        *,
        smoothing: float = 0.0,
        weights: torch.Tensor | None = None,
        loss: Loss = "auto",
        monitor: str = "",
    ) -> None:
        """Take the number of labels, the smoothing towards 0.5, and float32 [C] weights of the positive images."""
        super().__init__(classes, monitor)
        if loss == "cross_entropy":
            raise OptionInvalid("--loss cross_entropy is for images with one label each; of several use bce or focal")
        self.loss = TowardsHalf(BINARY["bce" if loss == "auto" else loss](weights), smoothing)

    def target(self, labels: np.ndarray) -> torch.Tensor:
        """Return float32 [n, C]."""
        return torch.from_numpy(labels).float()

    def right(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Tell where all labels of an image are right."""
        return ((logits.sigmoid() >= DEFAULT_THRESHOLD) == (target > 0.5)).all(1)

    def tally(self) -> Tally:
        """Return one for loss, mAP, exact match, and what is watched besides."""
        return self._tally(_SeveralLabelsTally())


def make_task(
    classes: int,
    *,
    multi_label: bool,
    smoothing: float = 0.0,
    weights: torch.Tensor | None = None,
    loss: Loss = "auto",
    monitor: str = "",
) -> OneLabel | SeveralLabels:
    """Return the one that the data asks for.

    Raises:
        OptionInvalid: a loss or a figure that this kind of data does not have.
    """
    kind = SeveralLabels if multi_label else OneLabel
    return kind(classes, smoothing=smoothing, weights=weights, loss=loss, monitor=monitor)
