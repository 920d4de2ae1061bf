"""The file beside eager fp32 where pictures get worse: what int8 loses that clean images hide."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from zoo.evaluation.labels import right, thresholds_of
from zoo.exporting.compare import agree
from zoo.exporting.corruptions import STRENGTHS, corruptions
from zoo.records.answers import eager
from zoo.records.manifest import Stressed

if TYPE_CHECKING:
    from zoo.contracts.plugins import Predictor, Split
    from zoo.exporting.corruptions import Corrupt
    from zoo.records.trained import Trained

LEAST_IMAGES = 16
"""Of the proof's, that each strength of each corruption is shown on, if there are so many."""
PASSES = 2.0
"""As many answers as that many passes over the proof's images take, where that is more."""
BATCH = 32


def stress(trained: Trained, predict: Predictor, split: Split) -> dict[str, Stressed]:
    """Ask eager fp32 and a file the same corrupted images, and return both accuracies by corruption and strength.

    Images are drawn by the run's seed, others for each strength, so that all of them are shown about equally often.

    Args:
        trained: The run.
        predict: The file, for prepared pixels.
        split: The proof's images.
    """
    kinds = corruptions()
    cells = len(kinds) * STRENGTHS
    count = min(len(split), max(LEAST_IMAGES, round(PASSES * len(split) / cells)))
    order = np.random.default_rng(trained.record.seed).permutation(len(split))
    found = {}
    for number, (name, strengths) in enumerate(kinds.items()):
        begins = [(number * STRENGTHS + strength) * count for strength in range(STRENGTHS)]
        shown = [order.take(range(begin, begin + count), mode="wrap") for begin in begins]
        found[name] = _row(trained, predict, split, strengths, shown)
    return found


def _row(
    trained: Trained, predict: Predictor, split: Split, strengths: tuple[Corrupt, ...], shown: list[np.ndarray]
) -> Stressed:
    thresholds, reference = thresholds_of(trained.record), eager(trained.shipped)
    before, after, flips = [], [], []
    for corrupt, chosen in zip(strengths, shown, strict=True):
        drawn = ((int(index), np.random.default_rng((trained.record.seed, int(index)))) for index in chosen)
        pixels = np.stack([corrupt(split.images[index], trained.preprocess, rng) for index, rng in drawn])
        parts = [pixels[at : at + BATCH] for at in range(0, len(pixels), BATCH)]
        wanted, answers = (np.concatenate([ask(part) for part in parts]) for ask in (reference, predict))
        labels = split.labels[chosen]
        before.append(float(right(labels, wanted, thresholds).mean()))
        after.append(float(right(labels, answers, thresholds).mean()))
        flips.append(agree(wanted, answers, thresholds).flips)
    return Stressed(images=len(shown[0]), reference_top1=tuple(before), artifact_top1=tuple(after), flips=tuple(flips))


def stress_drop(found: dict[str, Stressed]) -> float:
    """Return the points that the file loses against eager fp32 over all corruptions and strengths."""
    return 100 * float(np.mean([np.subtract(row.reference_top1, row.artifact_top1).mean() for row in found.values()]))
