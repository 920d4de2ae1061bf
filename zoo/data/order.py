"""In which order the training images of an epoch come: from (seed, epoch) alone, so that any step can be the first."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from zoo.data.splits import class_counts

Order = Callable[[int, int, np.ndarray], np.ndarray]
"""(seed, epoch, labels) -> int64 [N], indices of images."""


def shuffled(seed: int, epoch: int, labels: np.ndarray) -> np.ndarray:
    """Return every image once."""
    return np.random.default_rng([seed, epoch]).permutation(len(labels))


def balanced(seed: int, epoch: int, labels: np.ndarray) -> np.ndarray:
    """Return as many images as there are, drawn so that each class is as likely as any other.

    An image of several labels counts as one of its rarest; images without a label are a class of their own.
    """
    own = np.eye(int(labels.max()) + 1, dtype=bool)[labels] if labels.ndim == 1 else labels.astype(bool)
    own = np.column_stack([own, ~own.any(1)])
    counts = class_counts(own, own.shape[1])
    weights = (own / np.maximum(counts, 1)).max(1)
    return np.random.default_rng([seed, epoch]).choice(len(labels), len(labels), p=weights / weights.sum())


ORDERS: dict[str, Order] = {"shuffle": shuffled, "balanced": balanced}


def occurrences(order: np.ndarray) -> np.ndarray:
    """Return int64 [N]: how often each entry came before its own place."""
    by_value = np.argsort(order, kind="stable")
    values, places = order[by_value], np.arange(len(order))
    starts = np.concatenate([[True], values[1:] != values[:-1]])
    found = np.empty(len(order), np.int64)
    found[by_value] = places - np.maximum.accumulate(np.where(starts, places, 0))
    return found
