"""Judging candidates before the proof: the same few validation images and metrics for one predictor after another."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from zoo.contracts.plugins import Score, Split
from zoo.data.loader import evaluation_batches
from zoo.evaluation.labels import right, thresholds_of
from zoo.exporting.compare import agree, fidelity
from zoo.records.answers import eager

if TYPE_CHECKING:
    from zoo.contracts.plugins import Predictor
    from zoo.records.trained import Trained

CHOOSES = "val"
"""The split that files are chosen by; another one proves them."""
MOST_IMAGES = 1024
BATCH = 32


class Judge:
    """What `ExportRequest.score` is: the images are drawn by the run's seed, and asked of the reference once."""

    def __init__(self, trained: Trained) -> None:
        self._trained = trained

    def __call__(self, predict: Predictor) -> Score:
        """Ask a predictor all of the images.

        Raises:
            Exception: whatever the predictor raises.
        """
        found = np.concatenate([predict(batch) for batch in self._images])
        thresholds = thresholds_of(self._trained.record)
        before, after = right(self._labels, self._reference, thresholds), right(self._labels, found, thresholds)
        near = fidelity(self._reference, found, multi_label=thresholds is not None)
        return Score(
            images=len(found),
            top1=float(after.mean()),
            drop=100 * float(before.mean() - after.mean()),
            agreement=1 - agree(self._reference, found, thresholds).flips / len(found),
            cosine=near.cosine,
            cosine_p10=near.cosine_p10,
        )

    @functools.cached_property
    def _chosen(self) -> np.ndarray:
        count = len(self._trained.data.splits[CHOOSES])
        drawn = np.random.default_rng(self._trained.record.seed).permutation(count)[:MOST_IMAGES]
        return np.sort(drawn)

    @property
    def _labels(self) -> np.ndarray:
        labels: np.ndarray = self._trained.data.splits[CHOOSES].labels[self._chosen]
        return labels

    @functools.cached_property
    def _images(self) -> list[np.ndarray]:
        split = self._trained.data.splits[CHOOSES]
        part = Split(images=[split.images[int(i)] for i in self._chosen], labels=self._labels)
        batches = evaluation_batches(part, self._trained.preprocess, batch_size=BATCH, workers=self._trained.workers)
        return [images for images, _ in batches]

    @functools.cached_property
    def _reference(self) -> np.ndarray:
        predict = eager(self._trained.shipped)
        return np.concatenate([predict(batch) for batch in self._images])
