"""Cutting the splits that a dataset lacks: from the seed and the content, the same picture never in two of them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Literal

import numpy as np

from zoo.errors import DatasetInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HELD_OUT_SHARE = 0.1
"""Of the training images, for each split that is cut."""

Rule = Literal["rank", "content", "size"]
"""What decides where an image goes; recorded in every run.

"content": a hash of its content, so that other images have no say. "size": of its length in bytes, for datasets too
large to be read beforehand; equal images have equal lengths. "rank": the order of the content hashes inside a class,
which new images shift; what the first runs were cut by.
"""


def cut(
    labels: np.ndarray, keys: Sequence[str], classes: Sequence[str], missing: Sequence[str], seed: int
) -> dict[str, np.ndarray]:
    """Choose which training images go to each missing split, each by its own key alone.

    A hash of seed and key gives every image a place in 0..1, and each missing split takes a tenth of that line. So the
    choice depends on neither the order of the files nor their names, images of equal key stay together, and images that
    come or go move no other; shares are a tenth on average. Only a class that would have no image in one of the
    splits lends it the nearest one.

    Args:
        labels: int64 [N] of the training images, or uint8 [N, C] if they may have several.
        keys: What makes N images the same: their content hashes, or lengths.
        classes: Their names, for errors.
        missing: The splits to cut, for example ("val", "test").
        seed: Of the run.

    Returns:
        For "train" and each missing split, sorted indices into the training images.

    Raises:
        DatasetInvalid: a class too small to give every split an image.
    """
    names, group = np.unique(np.asarray(keys, dtype=str), return_inverse=True)
    place = np.array([place_of(seed, name) for name in names.tolist()])
    home = np.minimum((place / HELD_OUT_SHARE).astype(int), len(missing))
    for label, name in enumerate(classes):
        members = members_of(labels, label)
        if labels.ndim == 1:
            _check_size(len(members), name, missing)
        own = np.unique(group[members])
        _lend(home, own[np.argsort(place[own])], len(missing))
    return {split: np.flatnonzero(home[group] == number) for number, split in enumerate((*missing, "train"))}


def cut_by_rank(
    labels: np.ndarray, keys: Sequence[str], classes: Sequence[str], missing: Sequence[str], seed: int
) -> dict[str, np.ndarray]:
    """Choose as `cut` does, but exactly a tenth of each class, by order of the hashes; for runs that were cut so."""
    hashes = np.array([_hash(seed, key).hex() for key in keys])
    chosen: dict[str, list[int]] = {name: [] for name in ("train", *missing)}
    for label, name in enumerate(classes):
        members = members_of(labels, label)
        _check_size(len(members), name, missing)
        ordered = members[np.argsort(hashes[members], kind="stable")]
        begin = 0
        for split in missing:
            end = begin + max(1, round(HELD_OUT_SHARE * len(members)))
            while 0 < end < len(ordered) and hashes[ordered[end]] == hashes[ordered[end - 1]]:
                end += 1
            chosen[split] += ordered[begin:end].tolist()
            begin = end
        chosen["train"] += ordered[begin:].tolist()
    return {name: np.array(sorted(indices), dtype=np.int64) for name, indices in chosen.items()}


CUTS: dict[Rule, Callable[..., dict[str, np.ndarray]]] = {"rank": cut_by_rank, "content": cut, "size": cut}


def members_of(labels: np.ndarray, label: int) -> np.ndarray:
    """Return the indices of the images that have a label, from int64 [N] or uint8 [N, C]."""
    return np.flatnonzero(labels == label if labels.ndim == 1 else labels[:, label])


def class_counts(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return int64 [C]: how many images have each label, from int64 [N] or uint8 [N, C]."""
    return np.bincount(labels, minlength=classes) if labels.ndim == 1 else labels.sum(0, dtype=np.int64)


def place_of(seed: int, key: str) -> float:
    """Return where the hash of seed and key puts an image on the line from 0 to 1."""
    return int.from_bytes(_hash(seed, key)[:6], "big") / 2**48


def _hash(seed: int, key: str) -> bytes:
    return hashlib.sha256(f"{seed}:{key}".encode()).digest()


def _lend(home: np.ndarray, own: np.ndarray, train: int) -> None:
    """See to it that a class has an image in each split, train first, as far as it has enough.

    Args:
        home: Group -> number of its split; changed in place.
        own: The groups of the class, by their places.
        train: The number of train, which comes after those that are cut.
    """
    for split in (train, *range(train)):
        counts = np.bincount(home[own], minlength=train + 1)
        richest = int(counts.argmax())
        if not counts[split] and counts[richest] > (split != train):
            home[own[home[own] == richest][0]] = split


def _check_size(count: int, name: str, missing: Sequence[str]) -> None:
    if missing and count < len(missing) + 1:
        raise DatasetInvalid(
            f"class {name!r} has {count} usable training image{'s' * (count != 1)}, and {len(missing) + 1} are needed "
            f"to cut {' and '.join(missing)} from train; add images, or give those splits folders of their own"
        )
