"""Dealing the images of train and val into folds: from the seed and the content, each the val image of one of them."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from zoo.data.splits import class_counts, members_of, place_of
from zoo.errors import DatasetInvalid

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Which part of the images is validated on."""

    number: int
    """Counted from 1."""
    of: int


def deal(labels: np.ndarray, keys: Sequence[str], classes: Sequence[str], folds: int, seed: int) -> np.ndarray:
    """Choose for each image the fold that it validates, all folds as alike as they can be.

    One label after the other is dealt, the rarest first, and each image goes to the fold with the fewest of its label
    and then of all (after Sechidis et al., "On the Stratification of Multi-Label Data", 2011, with the order of the
    labels fixed at the start). Images of equal key are dealt as one, the largest heaps first, then by the hash of seed
    and key: neither the order of the files nor their names matter, and no library's version.

    Args:
        labels: int64 [N] of the images, or uint8 [N, C] if they may have several.
        keys: What makes N images the same: their content hashes, or lengths.
        classes: Their names, for errors.
        folds: How many, at least 2.
        seed: Of the run.

    Returns:
        int64 [N]: folds, counted from 1.

    Raises:
        DatasetInvalid: a fold would have no image of a class (where images have several labels: no image at all).
    """
    names, group, size = np.unique(np.asarray(keys, dtype=str), return_inverse=True, return_counts=True)
    places = np.array([place_of(seed, name) for name in names.tolist()])
    order = np.lexsort((places, -size))
    dealt = _Dealt(folds, size, np.argsort(order))
    for label in np.argsort(class_counts(labels, len(classes)), kind="stable").tolist():
        dealt.add(*np.unique(group[members_of(labels, label)], return_counts=True))
    # Images without any label.
    dealt.add(np.arange(len(names)), np.zeros_like(size))
    home = dealt.home[group]
    _check(home, labels, keys, classes, folds)
    return home + 1


class _Dealt:
    """Where each group of equal images went so far."""

    def __init__(self, folds: int, size: np.ndarray, turn: np.ndarray) -> None:
        self.home = np.full(len(size), -1)
        self._images = [0] * folds
        self._size = size
        self._turn = turn

    def add(self, own: np.ndarray, held: np.ndarray) -> None:
        """Deal those groups of a label that have no fold yet.

        Args:
            own: The groups that hold images of the label.
            held: How many.
        """
        there = self.home[own] >= 0
        counts = np.bincount(self.home[own[there]], held[there], len(self._images)).astype(int).tolist()
        heap = [(count, images, fold) for fold, (count, images) in enumerate(zip(counts, self._images, strict=True))]
        heapq.heapify(heap)
        own, held = own[~there], held[~there]
        for index in np.argsort(self._turn[own]).tolist():
            count, images, fold = heap[0]
            self.home[own[index]] = fold
            more = int(self._size[own[index]])
            heapq.heapreplace(heap, (count + int(held[index]), images + more, fold))
            self._images[fold] += more


def _check(home: np.ndarray, labels: np.ndarray, keys: Sequence[str], classes: Sequence[str], folds: int) -> None:
    wanted = [(f"class {name!r} has", members_of(labels, label)) for label, name in enumerate(classes)]
    for subject, members in wanted if labels.ndim == 1 else [("there are", np.arange(len(home)))]:
        if len(np.unique(home[members])) < folds:
            different = len({keys[index] for index in members.tolist()})
            raise DatasetInvalid(
                f"{subject} {different} different image{'s' * (different != 1)} beside those of test, too few for "
                f"{folds} folds; add some, or ask for fewer --folds"
            )
