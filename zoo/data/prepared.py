"""A dataset made ready: broken images left out by name, all three splits, and a fingerprint of it all."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import numpy as np

from zoo.data.decode import describe
from zoo.data.screen import Look, refuse_if_too_many, screen
from zoo.data.splits import cut
from zoo.errors import DatasetInvalid
from zoo.plugin import Dataset, Image, Split

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class PreparedData:
    """What training, evaluation, calibration and proof read from."""

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, Split]
    fingerprint: str
    """SHA-256 over classes, labels and content of every usable image, in order."""
    skipped: Mapping[str, str]
    """Images that were left out -> why."""
    multi_label: bool = False
    license: str = ""


@dataclass(frozen=True)
class Chosen(Sequence[Image]):
    """Some images of a sequence, still lazy."""

    images: Sequence[Image]
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Image]: ...
    def __getitem__(self, index: int | slice) -> Image | Sequence[Image]:
        if isinstance(index, slice):
            return Chosen(self.images, self.indices[index])
        return self.images[int(self.indices[index])]


def prepare(
    dataset: Dataset, name: str, *, seed: int, progress: Callable[[int, int], None] = lambda done, total: None
) -> PreparedData:
    """Screen every image, leave the broken ones out, and cut the splits that are missing.

    Raises:
        DatasetInvalid: too many broken images, a class without usable images or too few of them to cut splits.
    """
    if dataset.multi_label:
        raise DatasetInvalid("multi-label datasets cannot be trained yet; give each image one class")
    looks = {split: screen(dataset.splits[split].images, f"{name}:{split}", progress) for split in dataset.splits}
    broken = {
        describe(dataset.splits[split].images[i]): look.fault
        for split, found in looks.items()
        for i, look in enumerate(found)
        if look.fault
    }
    refuse_if_too_many(broken, sum(map(len, looks.values())), f"dataset {name!r}")
    usable = {split: _usable(dataset.splits[split], found) for split, found in looks.items()}
    splits = {split: part for split, (part, _) in usable.items()}
    missing = [split for split in SPLITS[1:] if split not in splits]
    if missing:
        train, hashes = usable["train"]
        parts = cut(train.labels, hashes, dataset.classes, missing, seed)
        splits.update({split: choose(train, indices) for split, indices in parts.items()})
    _check_training_classes(splits["train"], dataset)
    return PreparedData(
        name=name,
        classes=dataset.classes,
        splits={split: splits[split] for split in SPLITS},
        fingerprint=_fingerprint(dataset.classes, usable),
        skipped=broken,
        multi_label=dataset.multi_label,
        license=dataset.license,
    )


def choose(split: Split, indices: np.ndarray) -> Split:
    """Return the images and labels at `indices`, in that order."""
    return Split(images=Chosen(split.images, indices), labels=split.labels[indices])


def _usable(split: Split, looks: Sequence[Look]) -> tuple[Split, list[str]]:
    good = np.array([i for i, look in enumerate(looks) if not look.fault], dtype=np.int64)
    return choose(split, good), [looks[i].sha256 for i in good]


def _check_training_classes(train: Split, dataset: Dataset) -> None:
    counts = np.bincount(train.labels, minlength=len(dataset.classes))
    if (counts == 0).any():
        empty = [dataset.classes[i] for i in np.flatnonzero(counts == 0)]
        raise DatasetInvalid(
            f"no usable training image for class {', '.join(map(repr, empty))}; add some or remove the class"
        )


def _fingerprint(classes: Sequence[str], usable: Mapping[str, tuple[Split, list[str]]]) -> str:
    digest = hashlib.sha256("\0".join(classes).encode())
    for name, (split, hashes) in sorted(usable.items()):
        digest.update(f"\1{name}".encode())
        digest.update("".join(hashes).encode())
        digest.update(split.labels.tobytes())
    return digest.hexdigest()
