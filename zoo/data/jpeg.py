"""A part of a JPEG file, for training: no rows below it are decoded, and none finer than wanted."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import simplejpeg
from PIL import Image as Pictures

from zoo.runtime.pixels import MAX_PIXELS

if TYPE_CHECKING:
    from collections.abc import Callable

Box = tuple[int, int, int, int]
"""Top, left, bottom and right in pixels; the last two are outside."""

JPEG, EXIF = b"\xff\xd8\xff", b"Exif\0\0"
MARKER, START_OF_SCAN, RESTARTS = 0xFF, 0xDA, 0xDD
PROGRESSIVE = 0xC2
SEQUENTIAL = (0xC0, 0xC1)
"""Kinds of files whose rows stand one after the other, in one pass."""
ORIENTATION, UPRIGHT = 0x0112, 1
PLAIN_COLOURS = (1, 3)
"""How many values a pixel has in a file: grey or three colours; four are ink."""
SCALES = (8, 4, 2)
"""By which libjpeg-turbo decodes coarser in its fast transforms."""
BLOCK = 16
"""Rows that are decoded together, at most."""
ROWS_LEFT = "extraneous bytes before marker"
"""What libjpeg says at the end of its work when a file has more rows than its head says."""


@dataclass(slots=True)
class _Head:
    """What stands before the pixels."""

    height: int
    width: int
    colours: int
    turned: bool
    """Whether EXIF says to turn the image."""
    height_at: int
    """Where the file says how many rows it has, if it may say fewer; else 0."""


def jpeg_part(data: bytes, choose: Callable[[int, int], Box], least: tuple[int, int]) -> np.ndarray | None:
    """Return the part as RGB uint8, perhaps a view of more; None for files that want the careful way.

    Args:
        data: Begins as JPEG files do.
        choose: Called with height and width of the image; returns the part.
        least: Height and width that the part must keep, where it has them.
    """
    try:
        head = _head(data)
        height, width = head.height, head.width
        if head.colours not in PLAIN_COLOURS or height * width > MAX_PIXELS or head.turned:
            return None
        top, left, bottom, right = choose(height, width)
        scale = next((s for s in SCALES if (bottom - top) // s >= least[0] and (right - left) // s >= least[1]), 1)
        rows = min(height, -(-bottom // BLOCK) * BLOCK) if head.height_at else height
        pixels = _decoded(_shortened(data, head, rows) if rows < height else data, (rows, width), scale)
    except (ValueError, IndexError):
        return None
    return pixels[top // scale : -(-bottom // scale), left // scale : -(-right // scale)]


def _shortened(data: bytes, head: _Head, rows: int) -> bytes:
    """Return the file with another height in its head."""
    return data[: head.height_at] + rows.to_bytes(2, "big") + data[head.height_at + 2 :]


def _decoded(data: bytes, size: tuple[int, int], scale: int) -> np.ndarray:
    """Return all rows that the file says it has; raise ValueError for any damage in them."""
    rows, columns = (-(-side // scale) for side in size)
    pixels = np.empty((rows, columns, 3), np.uint8)
    try:
        simplejpeg.decode_jpeg(
            data, "RGB", fastdct=True, fastupsample=True, min_height=rows, min_width=columns, buffer=pixels
        )
    except ValueError as exc:
        # It stops at the first thing that is wrong, so that this one comes after the last row.
        if ROWS_LEFT not in str(exc):
            raise
    return pixels


def _head(data: bytes) -> _Head:
    """Walk over the segments before the pixels; raise IndexError if there is an end before."""
    place, frame, turned, restarts = 2, 0, False, False
    while data[place] == MARKER and (kind := data[place + 1]) != START_OF_SCAN:
        if kind in SEQUENTIAL or kind == PROGRESSIVE:
            frame = place
        restarts |= kind == RESTARTS
        turned |= data[place + 4 : place + 10] == EXIF and _is_turned(data)
        place += 2 + (data[place + 2] << 8 | data[place + 3])
    if not frame:
        return _Head(0, 0, 0, turned, 0)
    # All colours in one pass, and no marks in between that libjpeg would find after the last row.
    whole = data[frame + 1] in SEQUENTIAL and not restarts and data[frame + 9] == data[place + 4]
    height, width = data[frame + 5] << 8 | data[frame + 6], data[frame + 7] << 8 | data[frame + 8]
    return _Head(height, width, data[frame + 9], turned, frame + 5 if whole else 0)


def _is_turned(data: bytes) -> bool:
    with Pictures.open(io.BytesIO(data), formats=("JPEG",)) as image:
        return bool(image.getexif().get(ORIENTATION, UPRIGHT) != UPRIGHT)
