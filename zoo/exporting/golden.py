"""Golden vectors: images of the proof whose answers show whether another machine runs the file as the proof did."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from zoo.data.decode import to_rgb
from zoo.exporting.compare import agree
from zoo.exporting.guarded import Guarded
from zoo.records.answers import eager
from zoo.records.golden import Golden

if TYPE_CHECKING:
    from zoo.contracts.plugins import Predictor
    from zoo.records.trained import Trained

GOLDEN_IMAGES = 16
STEADY = 0.001
"""By how much rounding may move a golden answer: one that it decides tells nothing of a device."""


def choose(labels: np.ndarray, moved: np.ndarray, count: int = GOLDEN_IMAGES) -> np.ndarray:
    """Choose images so that as many classes as possible are there: the first of each, then the second of each.

    Args:
        labels: int64 [N], or uint8 [N, C]; then the label of an image seen least so far decides, and images without
            any are a class of their own.
        moved: float [N], how far rounding alone moves each image's answer; those beyond STEADY are taken last.
        count: How many; fewer if there are fewer images.

    Returns:
        Sorted indices.
    """
    seen: Counter[int] = Counter()
    unsteady = moved > STEADY
    turns = np.zeros(len(labels), int)
    for index in np.argsort(unsteady, kind="stable"):
        label = labels[index]
        held = (np.flatnonzero(label).tolist() or [-1]) if labels.ndim == 2 else [int(label)]
        turns[index] = min(seen[one] for one in held)
        seen.update(held)
    return np.sort(np.lexsort((turns, unsteady))[:count])


def golden_of(
    trained: Trained, split: str, chosen: np.ndarray, predict: Predictor, *, resizes: bool
) -> tuple[Golden, np.ndarray]:
    """Ask chosen images of a split one by one, as a device does.

    Those for a file that resizes are of one size and shape that the model does not have, so that they show the resize.

    Returns:
        The golden vectors, and the images as the backbone sees them, uint8 [n, height, width, 3].
    """
    source, (height, width) = trained.data.splits[split], trained.preprocess.size
    view = replace(trained.preprocess, size=(2 * height, width + width // 2), crop="squash")
    images = np.stack([(view if resizes else trained.preprocess).prepare(to_rgb(source.images[i])) for i in chosen])
    pixels = np.stack([trained.preprocess.prepare(image) for image in images]) if resizes else images
    golden = Golden(
        images=images,
        labels=source.labels[chosen],
        reference=eager(trained.shipped)(pixels),
        artifact=_one_by_one(predict, images),
    )
    return golden, pixels


def replay(golden: Golden, predict: Predictor) -> float:
    """Return the largest probability difference between the golden answers and those of `predict` now."""
    found = _one_by_one(Guarded(predict, golden.artifact.shape[1]), golden.images)
    return agree(golden.artifact, found).max_probability_difference


def _one_by_one(predict: Predictor, images: np.ndarray) -> np.ndarray:
    return np.concatenate([predict(image[None]) for image in images])
