"""The first look at every image: what tells it from others, and whether it can be used. Remembered between runs."""

from __future__ import annotations

import hashlib
import json
import stat
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.data.decode import to_rgb
from zoo.disk.files import write_json
from zoo.disk.home import zoo_home
from zoo.errors import DatasetInvalid, EnvironmentBroken, ImageUnreadable
from zoo.runtime.pixels import PixelError, read_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from zoo.contracts.plugins import Image, Split
    from zoo.data.splits import Rule

MAX_BROKEN_SHARE = 0.01
MOST_FILES, MOST_BYTES = 50_000, 4 * 2**30
"""What is read and decoded before training begins; of larger datasets only the files' lengths are asked for."""
CROWD_SHARE, LEAST_CROWD = 0.01, 20
"""Files of one length beyond this share of all are told apart by content: no split shall fill with one length."""
RULES = 1
"""Counts up when the decoder changes what it takes, so that older looks are not believed."""
Known = dict[str, list[object]]
"""Path -> [size, mtime_ns, sha256, fault], for files that were looked at before."""


@dataclass(frozen=True)
class Look:
    """What was found of one image."""

    key: str
    """Equal for equal images: the SHA-256 of the content, or the length in bytes."""
    fault: str = ""
    """Why it cannot be used; empty for a good one."""


def choose_rule(splits: Mapping[str, Split], lengths: Mapping[str, np.ndarray | None]) -> Rule:
    """Return "content" for datasets that can be read before training begins, "size" for larger or remote ones.

    Args:
        splits: Of the dataset.
        lengths: What `lengths_of` says of each.
    """
    if any(getattr(split.images, "byte_sizes", None) is not None for split in splits.values()):
        return "size"
    known = [found for found in lengths.values() if found is not None]
    if len(known) < len(lengths):
        return "content"
    files, size = sum(map(len, known)), sum(int(found.clip(0).sum()) for found in known)
    return "size" if files > MOST_FILES or size > MOST_BYTES else "content"


def lengths_of(images: Sequence[Image]) -> np.ndarray | None:
    """Return int64 [N]: each image's length in bytes, -1 for a file that cannot be asked; None if nobody knows.

    A sequence that keeps its images elsewhere may know them: its attribute `byte_sizes`, int64 [N].
    """
    known = getattr(images, "byte_sizes", None)
    if known is not None:
        return np.asarray(known, dtype=np.int64)
    lengths = np.empty(len(images), np.int64)
    for index in range(len(images)):
        image = images[index]
        if not isinstance(image, Path):
            return None
        try:
            found = image.stat()
        except OSError:
            lengths[index] = -1
        else:
            lengths[index] = found.st_size if stat.S_ISREG(found.st_mode) else -1
    return lengths


def screen(
    images: Sequence[Image],
    key: str,
    lengths: np.ndarray | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Look]:
    """Look at every image.

    Args:
        images: Of one split.
        key: Names the memory of earlier looks, for example the dataset and the split.
        lengths: What `lengths_of` says, if that shall do; else every image is decoded, but for files that have not
            changed since the last time.
        progress: Called with how many are done, and of how many.
    """
    return _by_content(images, key, progress) if lengths is None else _by_length(images, lengths)


def refuse_if_too_many(broken: Mapping[str, str], total: int, limit: float, where: str) -> None:
    """Raise DatasetInvalid if a larger share of the images than `limit` is broken.

    Args:
        broken: Image -> why.
        total: How many images were looked at.
        limit: In 0..1.
        where: The dataset, for the text.
    """
    if len(broken) > limit * total:
        image, why = next(iter(broken.items()))
        raise DatasetInvalid(
            f"{where}: {len(broken)} of {total} images ({len(broken) / total:.1%}) cannot be used, the limit is "
            f"{limit:.0%}; the first: {image} {why}; mend or remove them"
        )


def _by_length(images: Sequence[Image], lengths: np.ndarray) -> list[Look]:
    counts = Counter(lengths.tolist())
    crowd = {length for length, count in counts.items() if count > max(CROWD_SHARE * len(lengths), LEAST_CROWD)}
    return [_measured(images, index, length, length in crowd) for index, length in enumerate(lengths.tolist())]


def _measured(images: Sequence[Image], index: int, length: int, crowded: bool) -> Look:
    if length == 0:
        return Look("0", "is empty")
    if length < 0 or crowded:
        return _look(images[index], {}, decode=False)
    return Look(str(length))


def _by_content(images: Sequence[Image], key: str, progress: Callable[[int, int], None]) -> list[Look]:
    known_as = f"{RULES}:{key}".encode(errors="surrogateescape")
    memory = zoo_home() / "screened" / f"{hashlib.sha256(known_as).hexdigest()[:16]}.json"
    known = _read_memory(memory)
    looks: list[Look] = []
    with ThreadPoolExecutor() as pool:
        for look in pool.map(lambda i: _look(images[i], known), range(len(images))):
            looks.append(look)
            progress(len(looks), len(images))
    _write_memory(memory, known, images, looks)
    return looks


def _look(image: Image, known: Known, *, decode: bool = True) -> Look:
    if isinstance(image, Path):
        memory = known.get(str(image))
        if memory and memory[:2] == _stamp(image):
            return Look(str(memory[2]), str(memory[3]))
        try:
            data: bytes | np.ndarray = read_file(image)
        except PixelError as exc:
            return Look("", str(exc))
    else:
        data = image
    digest = hashlib.sha256(data if isinstance(data, bytes) else data.tobytes()).hexdigest()
    try:
        if decode:
            to_rgb(data)
    except ImageUnreadable as exc:
        return Look(digest, str(exc).removeprefix("an image in memory "))
    return Look(digest)


def _stamp(path: Path) -> list[object]:
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]


def _read_memory(path: Path) -> Known:
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _write_memory(path: Path, known: Known, images: Sequence[Image], looks: Sequence[Look]) -> None:
    fresh: Known = {
        str(image): [*_stamp(image), look.key, look.fault]
        for image, look in zip(images, looks, strict=True)
        if isinstance(image, Path) and look.key
    }
    if fresh != known and fresh:
        try:
            write_json(path, fresh)
        except EnvironmentBroken:
            return  # only a memory: the next run looks again
