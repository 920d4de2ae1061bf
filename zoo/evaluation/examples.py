"""The images of a proof that a person should look at: those that changed their class, and those that moved most."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING

import numpy as np

from zoo.evaluation.labels import answered, chosen, right

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_FLIPPED = 12
MOST_MOVED = 6
MOVED = 0.01
"""The change of a probability from which on an image is worth a look."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """An image, its label, and what two models answered."""

    image: np.ndarray
    """uint8 [H, W, 3], as the graph takes it."""
    label: np.ndarray
    """int64 [], or uint8 [C]."""
    reference: np.ndarray
    """float32 [C]: eager fp32."""
    artifact: np.ndarray
    """float32 [C]: the model file; NaN where it gave no answer."""
    index: int | None = None
    """In its split, if that is known."""


def most_flipped(
    labels: np.ndarray, reference: np.ndarray, artifact: np.ndarray, thresholds: np.ndarray | None = None
) -> list[int]:
    """Return the images whose answer changed: first those that only the reference got right, then by how far.

    Args:
        labels: int64 [N], or uint8 [N, C].
        reference: float32 [N, C].
        artifact: float32 [N, C].
        thresholds: float64 [C] if the labels are uint8 [N, C].
    """
    flipped = np.flatnonzero(_flipped(reference, artifact, thresholds))
    lost = right(labels, reference, thresholds) & ~right(labels, artifact, thresholds)
    order = np.lexsort((-_moved(reference, artifact)[flipped], ~lost[flipped]))
    found: list[int] = flipped[order][:MOST_FLIPPED].tolist()
    return found


def most_moved(reference: np.ndarray, artifact: np.ndarray, thresholds: np.ndarray | None = None) -> list[int]:
    """Return the images that kept their answer while a probability moved most, by at least `MOVED`; as above."""
    moved = np.where(_flipped(reference, artifact, thresholds), 0.0, _moved(reference, artifact))
    order = np.argsort(-moved, kind="stable")[:MOST_MOVED]
    found: list[int] = order[moved[order] >= MOVED].tolist()
    return found


def is_flipped(example: Example, thresholds: np.ndarray | None = None) -> bool:
    """Tell whether the two models answer differently."""
    return bool(_flipped(example.reference[None], example.artifact[None], thresholds)[0])


def said(probabilities: np.ndarray, classes: Sequence[str], thresholds: np.ndarray | None = None) -> list[str]:
    """Return the classes that a model says of one image, float32 [C]; none without an answer."""
    return list(compress(classes, chosen(probabilities[None], thresholds)[0]))


def _flipped(reference: np.ndarray, artifact: np.ndarray, thresholds: np.ndarray | None) -> np.ndarray:
    differ = (chosen(reference, thresholds) != chosen(artifact, thresholds)).any(1)
    flipped: np.ndarray = differ | (answered(reference) != answered(artifact))
    return flipped


def _moved(reference: np.ndarray, artifact: np.ndarray) -> np.ndarray:
    gap: np.ndarray = np.abs(reference.astype(np.float64) - artifact).max(1)
    known: np.ndarray = np.where(np.isfinite(gap), gap, 1.0)
    return known
