"""Probabilities -> labels: the most probable class, or all over their thresholds; which thresholds are best."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEFAULT_THRESHOLD = 0.5


class Described(Protocol):
    """What a run's record and an artifact's manifest both tell."""

    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def multi_label(self) -> bool: ...
    @property
    def thresholds(self) -> dict[str, float]: ...


def thresholds_of(described: Described) -> np.ndarray | None:
    """Return float64 [C], in the order of the classes; None if an image has exactly one label."""
    return thresholds_array(described.thresholds, described.classes) if described.multi_label else None


def thresholds_array(thresholds: Mapping[str, float], classes: Sequence[str]) -> np.ndarray:
    """Return float64 [C]; a class without a threshold has 0.5."""
    return np.array([thresholds.get(name, DEFAULT_THRESHOLD) for name in classes], np.float64)


def chosen(probabilities: np.ndarray, thresholds: np.ndarray | None = None) -> np.ndarray:
    """Return what a model says of each image.

    Args:
        probabilities: float32 [N, C].
        thresholds: float64 [C]; None where an image has exactly one label.

    Returns:
        bool [N, C]: the most probable class, or every label that reaches its threshold; none in a row that is not
        finite.
    """
    finite = answered(probabilities)[:, None]
    if thresholds is not None:
        return finite & (probabilities >= thresholds)
    best = np.nan_to_num(probabilities).argmax(1)
    one_hot: np.ndarray = finite & (best[:, None] == np.arange(probabilities.shape[1]))
    return one_hot


def logits(probabilities: np.ndarray, *, multi_label: bool = False) -> np.ndarray:
    """Return float64 [N, C]: the logits that give these probabilities; after a softmax those that sum to 0.

    Args:
        probabilities: float32 [N, C] in 0..1; what rounding made 0 or 1 counts as the nearest that is neither.
        multi_label: Whether a sigmoid made them.
    """
    tiny, nearly_one = float(np.finfo(np.float32).tiny), 1 - 2.0**-24
    held = probabilities.astype(np.float64).clip(tiny, nearly_one if multi_label else 1.0)
    logs = np.log(held)
    centred: np.ndarray = logs - (np.log1p(-held) if multi_label else logs.mean(1, keepdims=True))
    return centred


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return float64 of the same shape: what a sigmoid's probabilities become with the logits divided by a temperature.

    Args:
        probabilities: Any shape, in 0..1.
        temperature: Above 0.
    """
    with np.errstate(divide="ignore", over="ignore"):
        exact = probabilities.astype(np.float64)
        odds = (np.log(exact) - np.log1p(-exact)) / temperature
        found: np.ndarray = 1 / (1 + np.exp(-odds))
    return found


def answered(probabilities: np.ndarray) -> np.ndarray:
    """Return bool [N]: whether all of a row is finite."""
    finite: np.ndarray = np.isfinite(probabilities).all(1)
    return finite


def held(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return bool [N, C]: which labels each image has, from int64 [N] or uint8 [N, C]."""
    of_each: np.ndarray = labels.astype(bool) if labels.ndim == 2 else labels[:, None] == np.arange(classes)
    return of_each


def right(labels: np.ndarray, probabilities: np.ndarray, thresholds: np.ndarray | None = None) -> np.ndarray:
    """Return bool [N]: whether the model says exactly the labels that the image has; never where it gives no number.

    Args:
        labels: int64 [N], or uint8 [N, C].
        probabilities: float32 [N, C].
        thresholds: As `chosen` takes them.
    """
    same = chosen(probabilities, thresholds) == held(labels, probabilities.shape[1])
    exact: np.ndarray = same.all(1) & answered(probabilities)
    return exact


def tune_thresholds(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return float64 [C]: for each label the threshold with the highest F1 on these images.

    It lies halfway between the lowest score that reaches it and the next lower one (0 below the lowest). Of several
    with the same F1 the one with the widest gap between these two is taken, and of those the highest. A label that no
    image has keeps 0.5.

    Args:
        labels: uint8 [N, C] in {0, 1}.
        probabilities: float32 [N, C] in 0..1; a NaN counts as 0.
    """
    pairs = zip(labels.T, np.nan_to_num(probabilities).T.astype(np.float64), strict=True)
    return np.array([_best_threshold(has, scores) if has.any() else DEFAULT_THRESHOLD for has, scores in pairs])


def _best_threshold(has: np.ndarray, scores: np.ndarray) -> float:
    from sklearn.metrics import precision_recall_curve

    _, recall, candidates = precision_recall_curve(has, scores)
    # From whole numbers, so that thresholds of one and the same F1 are seen to be equal.
    found = np.rint(recall[:-1] * has.sum())
    said = len(scores) - np.searchsorted(np.sort(scores), candidates)
    f1 = 2 * found / (said + has.sum())
    below = np.concatenate([[0.0], candidates[:-1]])
    best = np.lexsort((candidates, candidates - below, f1))[-1]
    return float((candidates[best] + below[best]) / 2)
