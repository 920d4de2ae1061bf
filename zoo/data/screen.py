"""The first look at every image: its content hash, and whether it decodes completely. Remembered between runs."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.data.decode import to_rgb
from zoo.errors import DatasetInvalid, EnvironmentBroken, ImageUnreadable
from zoo.files import write_json
from zoo.home import zoo_home
from zoo.runtime.pixels import PixelError, read_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np

    from zoo.plugin import Image

MAX_BROKEN_SHARE = 0.01
RULES = 1
"""Counts up when the decoder changes what it takes, so that older looks are not believed."""
Known = dict[str, list[object]]
"""Path -> [size, mtime_ns, sha256, fault], for files that were looked at before."""


@dataclass(frozen=True)
class Look:
    """What was found of one image."""

    sha256: str
    fault: str = ""
    """Why it cannot be used; empty for a good one."""


def screen(
    images: Sequence[Image], key: str, progress: Callable[[int, int], None] = lambda done, total: None
) -> list[Look]:
    """Look at every image; files that have not changed since the last time are not opened again.

    Args:
        images: Of one split.
        key: Names the memory of earlier looks, for example the dataset and the split.
        progress: Called with how many are done, and of how many.
    """
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


def refuse_if_too_many(broken: Mapping[str, str], total: int, where: str) -> None:
    """Raise DatasetInvalid if more than one image in a hundred is broken.

    Args:
        broken: Image -> why.
        total: How many images were looked at.
        where: The dataset, for the text.
    """
    if len(broken) > MAX_BROKEN_SHARE * total:
        image, why = next(iter(broken.items()))
        raise DatasetInvalid(
            f"{where}: {len(broken)} of {total} images ({len(broken) / total:.1%}) cannot be used, the limit is "
            f"{MAX_BROKEN_SHARE:.0%}; the first: {image} {why}; mend or remove them"
        )


def _look(image: Image, known: Known) -> Look:
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
        to_rgb(data)
    except ImageUnreadable as exc:
        return Look(digest, str(exc).removeprefix("an image in memory "))
    return Look(digest)


def _stamp(path: Path) -> list[object]:
    try:
        stat = path.stat()
    except OSError:
        return []
    return [stat.st_size, stat.st_mtime_ns]


def _read_memory(path: Path) -> Known:
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _write_memory(path: Path, known: Known, images: Sequence[Image], looks: Sequence[Look]) -> None:
    fresh: Known = {
        str(image): [*_stamp(image), look.sha256, look.fault]
        for image, look in zip(images, looks, strict=True)
        if isinstance(image, Path) and look.sha256
    }
    if fresh != known and fresh:
        try:
            write_json(path, fresh)
        except EnvironmentBroken:
            return  # only a memory: the next run looks again
