"""Cutting the splits that a dataset lacks: stratified, from the seed, the same picture never in two of them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import DatasetInvalid

if TYPE_CHECKING:
    from collections.abc import Sequence

HELD_OUT_SHARE = 0.1
"""Of the training images, for each split that is cut."""


def cut(
    labels: np.ndarray, hashes: Sequence[str], classes: Sequence[str], missing: Sequence[str], seed: int
) -> dict[str, np.ndarray]:
    """Choose which training images go to each missing split.

    Inside each class the images are ordered by a hash of seed and content, so the choice depends on neither the order
    of the files nor their names; images of equal content stay together.

    Args:
        labels: int64 [N] of the training images.
        hashes: Their N content hashes.
        classes: Their names, for errors.
        missing: The splits to cut, for example ("val", "test").
        seed: Of the run.

    Returns:
        For "train" and each missing split, sorted indices into the training images.

    Raises:
        DatasetInvalid: a class too small to give every split an image.
    """
    keys = np.array([hashlib.sha256(f"{seed}:{content}".encode()).hexdigest() for content in hashes])
    chosen: dict[str, list[int]] = {name: [] for name in ("train", *missing)}
    for label, name in enumerate(classes):
        members = np.flatnonzero(labels == label)
        _check_size(len(members), name, missing)
        ordered = members[np.argsort(keys[members], kind="stable")]
        begin = 0
        for split in missing:
            end = _end_of_group(keys[ordered], begin + max(1, round(HELD_OUT_SHARE * len(members))))
            chosen[split] += ordered[begin:end].tolist()
            begin = end
        chosen["train"] += ordered[begin:].tolist()
    return {name: np.array(sorted(indices), dtype=np.int64) for name, indices in chosen.items()}


def _end_of_group(keys: np.ndarray, end: int) -> int:
    while 0 < end < len(keys) and keys[end] == keys[end - 1]:
        end += 1
    return end


def _check_size(count: int, name: str, missing: Sequence[str]) -> None:
    if missing and count < len(missing) + 1:
        raise DatasetInvalid(
            f"class {name!r} has {count} usable training image{'s' * (count != 1)}, and {len(missing) + 1} are needed "
            f"to cut {' and '.join(missing)} from train; add images, or give those splits folders of their own"
        )
