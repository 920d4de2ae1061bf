"""The webdataset dataset: tar shards on any machine, streamed: each image is fetched when it is asked for.

The `webdataset` package reads shards from front to back and its `wids` wants them downloaded, with an index by their
author; exact shuffles and exact resume need any image at any time, so the tar headers are read here, once.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from zoo.errors import DatasetInvalid
from zoo.plugin import Dataset, Image, Split
from zoo_plugins.tar_index import Index, Wanted, index_of
from zoo_plugins.tar_shards import expand, read

ZOO_API = 1
SHARDS_AT_ONCE = 8
NUMBER = re.compile(r"\d{1,18}")


def webdataset(  # noqa: PLR0913 - the options are the user's
    root: Path,
    *,
    shards: str = "",
    val_shards: str = "",
    test_shards: str = "",
    image: str = "jpg;jpeg;png;webp;bmp;gif;tif;tiff",
    label: str = "cls",
    separator: str = "",
    classes: str = "",
) -> Dataset:
    """Stream images from tar shards (webdataset's format), local or at any address that fsspec can read.

    Args:
        root: Where each shard's index is kept: where its images lie, and their labels; no image is.
        shards: To train on, as in data/train-{000..012}.tar, s3://bucket/{a,b}.tar, data/*.tar or several with commas.
        val_shards: To validate on; cut from the training shards if empty.
        test_shards: To test on; likewise.
        image: Extensions of the member with the image, the best first.
        label: The member with the label: cls for text or a number, json:KEY for one in JSON (a list of several, too).
        separator: Between the labels in one text, where an image may have several.
        classes: Names in the labels' order, as in cat,dog, or a file with one a line; else taken from the labels.

    Raises:
        DatasetInvalid: a shard that cannot be read in parts, or a sample that makes no sense; both are named.
    """
    if not shards:
        raise DatasetInvalid("no shards were named; write --dataset-option shards='data/train-{000..012}.tar'")
    _check_installed()
    given = {"train": shards, "val": val_shards, "test": test_shards}
    addresses = {split: expand(text) for split, text in given.items() if text}
    _refuse_shared(addresses)
    indexes = _indexes(addresses, _wanted(image, label, separator), root)
    several = _has_several(indexes)
    names, codes = _classes(classes, indexes)
    return Dataset(
        classes=names,
        splits={split: _split(found, codes, several) for split, found in indexes.items()},
        multi_label=several,
    )


@dataclass(frozen=True, eq=False)
class Streamed(Sequence[Image]):
    """Images in shards; each is fetched when it is asked for, from any thread, and none is kept."""

    addresses: tuple[str, ...]
    shards: np.ndarray
    """int64 [N]: which of the addresses."""
    offsets: np.ndarray
    """int64 [N], in bytes."""
    byte_sizes: np.ndarray
    """int64 [N]: by these zoo tells images apart, so that none is fetched before training needs it."""

    def __len__(self) -> int:
        return len(self.offsets)

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Image]: ...
    def __getitem__(self, index: int | slice) -> Image | Sequence[Image]:
        if isinstance(index, slice):
            return Streamed(self.addresses, self.shards[index], self.offsets[index], self.byte_sizes[index])
        start = int(self.offsets[index])
        return read(self.addresses[self.shards[index]], start, start + int(self.byte_sizes[index]))

    def name(self, index: int) -> str:
        """Say where an image is."""
        return f"{self.addresses[self.shards[index]]} at byte {self.offsets[index]}"


def _check_installed() -> None:
    try:
        import fsspec  # noqa: F401
    except ImportError as exc:
        raise DatasetInvalid('dataset webdataset needs fsspec; run `pip install "edgezoo[webdataset]"`') from exc


def _wanted(image: str, label: str, separator: str) -> Wanted:
    suffixes = tuple(part.strip().lower().lstrip(".") for part in re.split("[;,]", image) if part.strip())
    member, colon, key = label.partition(":")
    member = member.strip().lower().lstrip(".")
    if not suffixes or not member or bool(colon) != bool(key) or member in suffixes:
        raise DatasetInvalid(
            f"image={image!r} and label={label!r} name no two members; write jpg;png and cls or json:KEY"
        )
    return Wanted(suffixes, member, key, separator)


def _refuse_shared(addresses: dict[str, list[str]]) -> None:
    owner: dict[str, str] = {}
    for split, found in addresses.items():
        for address in found:
            if owner.setdefault(address, split) != split:
                raise DatasetInvalid(
                    f"{address} is named for {owner[address]} and for {split}; name it for one of them"
                )


def _indexes(addresses: dict[str, list[str]], wanted: Wanted, root: Path) -> dict[str, list[Index]]:
    """Index every shard, several at once; each is kept as soon as it is done, so that a second try goes on."""
    total, done = sum(map(len, addresses.values())), 0
    found: dict[str, list[Index]] = {}
    with ThreadPoolExecutor(SHARDS_AT_ONCE) as pool:
        coming = {split: pool.map(lambda a: index_of(a, wanted, root), names) for split, names in addresses.items()}
        try:
            for split, indexes in coming.items():
                found[split] = []
                for index in indexes:
                    found[split].append(index)
                    done += 1
                    _tell(done, total)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return found


def _tell(done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\rindexed {done} of {total} shards", end="\n" if done == total else "", file=sys.stderr, flush=True)


def _has_several(indexes: dict[str, list[Index]]) -> bool:
    """Tell whether samples have lists of labels; it is all or none."""
    first: bool | None = None
    for index in (index for found in indexes.values() for index in found):
        for member, label in zip(index.members, index.labels, strict=True):
            several = isinstance(label, list)
            if first is None:
                first = several
            if several != first:
                kinds = ("a list of labels", "one label") if several else ("one label", "a list of labels")
                raise DatasetInvalid(
                    f"{index.address} member {member!r} has {kinds[0]}, those before it have {kinds[1]}; "
                    "write lists for all"
                )
    return bool(first)


def _classes(given: str, indexes: dict[str, list[Index]]) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the classes, and the class of each text that may stand in a label."""
    texts = {text for index in indexes["train"] for label in index.labels for text in _texts(label)}
    numeric = all(NUMBER.fullmatch(text) for text in texts)
    names = _given_classes(given) if given else tuple(sorted(texts, key=(lambda t: (int(t), t)) if numeric else None))
    if given and numeric and not texts <= set(names):
        codes = {str(number): number for number in range(len(names))}
    else:
        codes = {name: number for number, name in enumerate(names)}
    if len(names) < 2:
        raise DatasetInvalid(f"the shards need at least 2 classes, found: {', '.join(names) or 'none'}; add others")
    return names, codes


def _given_classes(given: str) -> tuple[str, ...]:
    file = Path(given).expanduser()
    try:
        parts = file.read_text(encoding="utf-8-sig").splitlines() if file.is_file() else given.split(",")
    except (OSError, ValueError) as exc:
        raise DatasetInvalid(
            f"classes={given} cannot be read as UTF-8 text; name a file with one class a line"
        ) from exc
    names = tuple(part.strip() for part in parts if part.strip())
    if len(names) < 2 or len(set(names)) < len(names):
        raise DatasetInvalid(
            f"classes={given} is no file, nor a list of different classes; write cat,dog or a file's name"
        )
    return names


def _split(indexes: list[Index], codes: dict[str, int], several: bool) -> Split:
    counts = [len(index.offsets) for index in indexes]
    rows = [_codes(index, number, codes) for index in indexes for number in range(len(index.labels))]
    labels = np.array(rows, dtype=np.int64).reshape(-1) if not several else np.zeros((len(rows), len(codes)), np.uint8)
    if several:
        for row, found in enumerate(rows):
            labels[row, found] = 1
    return Split(
        images=Streamed(
            tuple(index.address for index in indexes),
            np.repeat(np.arange(len(indexes)), counts),
            np.concatenate([np.array(index.offsets, np.int64) for index in indexes]),
            np.concatenate([np.array(index.sizes, np.int64) for index in indexes]),
        ),
        labels=labels,
    )


def _codes(index: Index, number: int, codes: dict[str, int]) -> list[int]:
    texts = _texts(index.labels[number])
    unknown = [text for text in texts if text not in codes]
    if unknown:
        raise DatasetInvalid(
            f"{index.address} member {index.members[number]!r} has label {unknown[0]!r}, which is none of the "
            f"{len(codes)} classes of the training shards or of classes=; mend it or name all classes"
        )
    return [codes[text] for text in texts]


def _texts(label: str | list[str]) -> list[str]:
    return label if isinstance(label, list) else [label]
