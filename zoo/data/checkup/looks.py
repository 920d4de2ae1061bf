"""One look at every image: does it decode, how large is it, and what it is recognised by later."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import simplejpeg
from PIL import Image as Pillow

from zoo.data.checkup.alike import Trace, trace_of
from zoo.data.decode import to_rgb
from zoo.errors import ZooError, first_line
from zoo.runtime.pixels import FORMATS, PixelError, decode, read_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from zoo.contracts.plugins import Image

AHEAD = 4
"""Images that wait for each thread; more would only fill the memory, and hold up Ctrl-C."""
JPEG = b"\xff\xd8\xff"
FORMAT_OF = {
    ".bmp": "BMP",
    ".gif": "GIF",
    ".jpeg": "JPEG",
    ".jpg": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
REASONS = {
    "is empty": "empty",
    "is truncated": "truncated",
    "is not an image": "not an image",
    "is a git-lfs pointer": "git-lfs pointer",
    "megapixels": "too many pixels",
    "is damaged": "damaged",
    "cannot be read": "not readable",
}
"""What the decoder says -> one or two words to count by."""


@dataclass(frozen=True)
class Look:
    """What was found of one image; sizes in pixels, 0 where it does not decode."""

    path: Path | None = None
    """The file; None for an image in memory."""
    fault: str = ""
    """Why it cannot be used, to be read after its name; empty for a good one."""
    reason: str = ""
    """The same in a word or two: "truncated", "empty", ..."""
    flaw: str = ""
    """What is damaged in a file that decodes all the same, to be read after its name."""
    sha256: str = ""
    """Of the file's or the array's bytes."""
    pixels: str = ""
    """A hash of the decoded pixels: equal for equal pictures in different files."""
    height: int = 0
    width: int = 0
    format: str = ""
    """As Pillow finds it in the content; empty for an array."""
    trace: Trace | None = None


def look_at(images: Sequence[Image], progress: Callable[[int], None] = lambda done: None) -> list[Look]:
    """Look at every image of a split, in threads; nothing that is wrong with one image raises.

    Args:
        images: Of one split.
        progress: Called with how many are done.
    """
    looks: list[Look] = []
    for look in _in_order(lambda index: _look(images, index), len(images)):
        looks.append(look)
        progress(len(looks))
    return looks


def expected_format(path: Path) -> str:
    """Return the format that a file's suffix promises; empty if it promises none."""
    return FORMAT_OF.get(path.suffix.lower(), "")


def _in_order(make: Callable[[int], Look], count: int) -> Iterator[Look]:
    workers = os.cpu_count() or 1
    waiting: deque[Future[Look]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for index in range(count):
            waiting.append(pool.submit(make, index))
            if len(waiting) > AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _look(images: Sequence[Image], index: int) -> Look:
    try:
        image = images[index]
    except Exception as exc:  # a plugin's own sequence may do anything
        text = first_line(exc) if isinstance(exc, ZooError) else f"{type(exc).__name__}: {first_line(exc)}"
        return _broken(f"cannot be read: the dataset's plugin failed on it ({text})")
    if isinstance(image, np.ndarray):
        return _look_at_array(image)
    if isinstance(image, Path):
        try:
            return replace(_look_at_bytes(read_file(image)), path=image)
        except PixelError as exc:
            return replace(_broken(str(exc)), path=image)
    return _look_at_bytes(image)


def _look_at_bytes(data: bytes) -> Look:
    digest = hashlib.sha256(data).hexdigest()
    try:
        pixels = decode(data)
    except PixelError as exc:
        fault = "is truncated" if _ends_early(data) else str(exc)
        return _broken(fault, digest)
    return replace(_good(pixels, digest, _format_of(data)), flaw=_flaw(data))


def _look_at_array(image: np.ndarray) -> Look:
    digest = hashlib.sha256(image.tobytes()).hexdigest()
    try:
        pixels = to_rgb(image)
    except ZooError as exc:
        return _broken(f"is not what a dataset may give: {exc}", digest)
    if pixels.size == 0:
        return _broken(f"is empty: its shape is {list(pixels.shape)}", digest)
    return _good(pixels, digest, "")


def _good(pixels: np.ndarray, digest: str, format_: str) -> Look:
    height, width = pixels.shape[:2]
    content = hashlib.blake2b(f"{height}x{width}:".encode(), digest_size=16)
    content.update(np.ascontiguousarray(pixels).data)
    return Look(
        sha256=digest,
        pixels=content.hexdigest(),
        height=height,
        width=width,
        format=format_,
        trace=trace_of(pixels),
    )


def _broken(fault: str, digest: str = "") -> Look:
    reason = next((word for text, word in REASONS.items() if text in fault), "other")
    return Look(fault=fault, reason=reason, sha256=digest)


def _format_of(data: bytes) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Pillow.open(io.BytesIO(data), formats=FORMATS) as image:
            # A camera's second picture behind the first makes a JPEG file an MPO to Pillow.
            return "JPEG" if image.format == "MPO" else str(image.format)


def _flaw(data: bytes) -> str:
    """Ask libjpeg, which goes on in silence after damaged data; what follows may be grey or shifted."""
    if not data.startswith(JPEG):
        return ""
    try:
        simplejpeg.decode_jpeg(data, "GRAY", min_height=1, min_width=1, min_factor=8)
    except ValueError as exc:
        if str(exc).startswith("Corrupt JPEG data"):
            return f"is damaged ({exc})"
    return ""


def _ends_early(data: bytes) -> bool:
    """Tell whether a WebP or TIFF file is shorter than it says; Pillow's words for that are others than "truncated"."""
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    order: Literal["little", "big"] = "little" if data.startswith(b"II") else "big"
    return data.startswith((b"II*\0", b"MM\0*")) and int.from_bytes(data[4:8], order) >= len(data)
