"""A dataset made ready: broken images left out by name, all three splits, and a fingerprint of it all."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np

from zoo.contracts.plugins import Dataset, Image, Split
from zoo.data.decode import describe
from zoo.data.folds import deal
from zoo.data.screen import MAX_BROKEN_SHARE, Look, choose_rule, lengths_of, refuse_if_too_many, screen
from zoo.data.splits import CUTS, class_counts
from zoo.errors import DatasetInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from zoo.data.folds import Fold
    from zoo.data.splits import Rule

SPLITS = ("train", "val", "test")
Keyed = tuple[Split, list[str]]
"""Images and labels, and what makes images the same."""


@dataclass(frozen=True, kw_only=True)
class PreparedData:
    """What training, evaluation, calibration and proof read from."""

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, Split]
    fingerprint: str
    """SHA-256 over classes, labels and keys (see `rule`) of every usable image, in order."""
    rule: Rule
    """What told images apart when splits were cut: their content, or only their length."""
    skipped: Mapping[str, str]
    """Images that were left out -> why."""
    multi_label: bool = False
    license: str = ""

    def without(self, broken: Mapping[str, str]) -> PreparedData:
        """Return the same data but for images that turned out to be broken (name -> why)."""
        if not broken:
            return self
        splits = {name: _without(split, broken) for name, split in self.splits.items()}
        return replace(self, splits=splits, skipped={**self.skipped, **broken})


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What a run has settled of its data, so that the same splits are cut again."""

    rule: Rule | None = None
    """None: not yet, the dataset decides."""
    skipped: Mapping[str, str] = field(default_factory=dict)
    """Images that the run left out."""
    fold: Fold | None = None
    """Which part of train and val is validated on, instead of val."""


@dataclass(frozen=True)
class Subset(Sequence[Image]):
    """Some images of a sequence, still lazy."""

    images: Sequence[Image]
    indices: np.ndarray
    origin: str = ""
    """The dataset's own split that `images` are."""

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> Subset: ...
    def __getitem__(self, index: int | slice) -> Image | Subset:
        if isinstance(index, slice):
            return Subset(self.images, self.indices[index], self.origin)
        return self.images[int(self.indices[index])]

    def name(self, index: int) -> str:
        """Return what a person calls an image: its path, or its number in the dataset's split."""
        return name_of(self.images, int(self.indices[index]), self.origin)


@dataclass(frozen=True)
class Joined(Sequence[Image]):
    """The images of two splits, one after the other, still lazy."""

    first: Subset
    second: Subset

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> list[Image]: ...
    def __getitem__(self, index: int | slice) -> Image | list[Image]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        part, own = self._place(range(len(self))[index])
        return part[own]

    def name(self, index: int) -> str:
        """Return what a person calls an image, as its split does."""
        part, own = self._place(index)
        return part.name(own)

    def _place(self, index: int) -> tuple[Subset, int]:
        before = len(self.first)
        return (self.first, index) if index < before else (self.second, index - before)


def prepare(
    dataset: Dataset,
    name: str,
    *,
    seed: int,
    recorded: Recorded | None = None,
    max_broken: float = MAX_BROKEN_SHARE,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PreparedData:
    """Screen every image, leave the broken ones out, and cut the splits that are missing.

    Args:
        dataset: As its plugin describes it.
        name: What the user calls it.
        seed: Of the splits that are cut.
        recorded: What a run knows of this data: the same splits come out again, or one of its folds.
        max_broken: In 0..1: the share of broken images above which the dataset is refused.
        progress: Called with how many images of a split were looked at, and of how many.

    Raises:
        DatasetInvalid: too many broken images, a class without usable images or too few of them to cut splits.
    """
    recorded = recorded or Recorded()
    rule, lengths = _rule(dataset, recorded)
    looks = {
        split: screen(part.images, f"{name}:{split}", lengths.get(split), progress)
        for split, part in sorted(dataset.splits.items())
    }
    broken = _broken(dataset, looks)
    refuse_if_too_many(broken, sum(map(len, looks.values())), max_broken, f"dataset {name!r}")
    usable = {split: _usable(dataset.splits[split], found, split) for split, found in looks.items()}
    splits = _cut(usable, dataset.classes, rule, seed, recorded.fold)
    _check_training_classes(splits["train"], dataset.classes)
    data = PreparedData(
        name=name,
        classes=dataset.classes,
        splits=splits,
        fingerprint=_fingerprint(dataset.classes, usable, rule),
        rule=rule,
        skipped=broken,
        multi_label=dataset.multi_label,
        license=dataset.license,
    )
    return data.without({image: why for image, why in recorded.skipped.items() if image not in broken})


def _rule(dataset: Dataset, recorded: Recorded) -> tuple[Rule, Mapping[str, np.ndarray | None]]:
    """Return by what images are told apart, and their lengths where that is enough; files are asked once."""
    if recorded.rule not in (None, "size"):
        return recorded.rule, {}
    lengths = {split: lengths_of(part.images) for split, part in dataset.splits.items()}
    rule = recorded.rule or choose_rule(dataset.splits, lengths)
    return rule, lengths if rule == "size" else {}


def _broken(dataset: Dataset, looks: Mapping[str, Sequence[Look]]) -> dict[str, str]:
    return {
        name_of(dataset.splits[split].images, index, split): look.fault
        for split, found in looks.items()
        for index, look in enumerate(found)
        if look.fault
    }


def _cut(
    usable: Mapping[str, Keyed], classes: Sequence[str], rule: Rule, seed: int, fold: Fold | None
) -> dict[str, Split]:
    splits = dict(usable)
    missing = [split for split in SPLITS[1:] if split not in splits]
    if missing:
        train, keys = usable["train"]
        parts = CUTS[rule](train.labels, keys, classes, missing, seed)
        splits.update({split: (choose(train, own), [keys[i] for i in own.tolist()]) for split, own in parts.items()})
    found = {split: splits[split][0] for split in SPLITS}
    return {**found, **_fold(splits["train"], splits["val"], classes, seed, fold)} if fold else found


def _fold(train: Keyed, val: Keyed, classes: Sequence[str], seed: int, fold: Fold) -> dict[str, Split]:
    """Return train and val of one fold; test is cut before, as without folds."""
    labels = np.concatenate([train[0].labels, val[0].labels])
    both = Split(images=_join(train[0].images, val[0].images), labels=labels)
    home = deal(labels, [*train[1], *val[1]], classes, fold.of, seed)
    mine = home == fold.number
    return {"train": choose(both, np.flatnonzero(~mine)), "val": choose(both, np.flatnonzero(mine))}


def _join(first: Sequence[Image], second: Sequence[Image]) -> Subset:
    assert isinstance(first, Subset)
    assert isinstance(second, Subset)
    if first.images is second.images:
        # Numbered as in the dataset: caches know images by these numbers.
        return Subset(first.images, np.concatenate([first.indices, second.indices]), first.origin)
    return Subset(Joined(first, second), np.arange(len(first) + len(second)), f"{first.origin}+{second.origin}")


def name_of(images: Sequence[Image], index: int, origin: str) -> str:
    """Return what a person calls an image: its path, or its number in the dataset's split."""
    if hasattr(images, "name"):
        return str(images.name(index))
    # Asking a lazy sequence for anything but files may mean to fetch them.
    image = images[index] if isinstance(images[0], Path) else None
    return describe(image) if isinstance(image, Path) else f"image {index} of {origin}"


def choose(split: Split, indices: np.ndarray) -> Split:
    """Return the images and labels at `indices`, in that order."""
    images = split.images
    if isinstance(images, Subset):
        chosen = Subset(images.images, images.indices[indices], images.origin)
    else:
        chosen = Subset(images, indices)
    return Split(images=chosen, labels=split.labels[indices])


def _usable(split: Split, looks: Sequence[Look], origin: str) -> Keyed:
    good = np.array([i for i, look in enumerate(looks) if not look.fault], dtype=np.int64)
    images = Subset(split.images, good, origin)
    return Split(images=images, labels=split.labels[good]), [looks[i].key for i in good]


def _without(split: Split, broken: Mapping[str, str]) -> Split:
    images = split.images
    assert isinstance(images, Subset)
    return choose(split, np.array([i for i in range(len(split)) if images.name(i) not in broken], dtype=np.int64))


def _check_training_classes(train: Split, classes: Sequence[str]) -> None:
    counts = class_counts(train.labels, len(classes))
    if (counts == 0).any():
        empty = [classes[i] for i in np.flatnonzero(counts == 0).tolist()]
        raise DatasetInvalid(
            f"no usable training image for class {', '.join(map(repr, empty))}; add some or remove the class"
        )


def _fingerprint(classes: Sequence[str], usable: Mapping[str, Keyed], rule: Rule) -> str:
    digest = hashlib.sha256("\0".join(classes).encode())
    for name, (split, keys) in sorted(usable.items()):
        digest.update(f"\1{name}".encode())
        # Hashes are of one length and need nothing between them.
        digest.update(("," if rule == "size" else "").join(keys).encode())
        digest.update(split.labels.tobytes())
    return digest.hexdigest()
