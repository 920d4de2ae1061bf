"""One image of a split -> RGB uint8: whole and careful as on the device, or just the part that training wants."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import simplejpeg
from PIL import Image as Pictures

from zoo.errors import ContractBroken, ImageUnreadable
from zoo.runtime.pixels import MAX_PIXELS, PixelError, decode, read_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo.plugin import Image

Box = tuple[int, int, int, int]
"""Top, left, bottom and right in pixels; the last two are outside."""

JPEG, EXIF, MARKER, START_OF_SCAN = b"\xff\xd8\xff", b"Exif\0\0", b"\xff", 0xDA
ORIENTATION, UPRIGHT = 0x0112, 1
PLAIN_COLOURS = ("YCbCr", "RGB", "Gray")
SCALES = (8, 4, 2)
"""By which libjpeg-turbo decodes coarser in its fast transforms."""


def to_rgb(image: Image) -> np.ndarray:
    """Return RGB uint8 [H, W, 3], through the decoder that the device uses.

    Raises:
        ImageUnreadable: the file or the bytes are no complete image; the file is named.
        ContractBroken: an array that is not uint8 [H, W, 3].
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ContractBroken(f"an image must be RGB uint8 [H, W, 3], got {image.dtype} {list(image.shape)}")
        return image
    try:
        return decode(image)
    except PixelError as exc:
        raise ImageUnreadable(f"{describe(image)} {exc}") from exc


def to_part(image: Image, choose: Callable[[int, int], Box], least: tuple[int, int]) -> np.ndarray:
    """Return RGB uint8 [h, w, 3]: a part of the image, at an eighth, a quarter, a half or all of its resolution.

    For training only: JPEG files are decoded by libjpeg-turbo's faster, slightly coarser methods, up to a few levels
    from what `to_rgb` gives.

    Args:
        image: File, encoded bytes, or array.
        choose: Called with height and width of the image; returns the part.
        least: Height and width that the part must keep, where it has them.

    Raises:
        ImageUnreadable, ContractBroken: as `to_rgb` does.
    """
    if not isinstance(image, np.ndarray):
        try:
            data = image if isinstance(image, bytes) else read_file(image)
        except PixelError as exc:
            raise ImageUnreadable(f"{describe(image)} {exc}") from exc
        part = _jpeg_part(data, choose, least) if data.startswith(JPEG) else None
        if part is not None:
            return part
    pixels = to_rgb(image)
    top, left, bottom, right = choose(*pixels.shape[:2])
    return pixels[top:bottom, left:right]


def describe(image: Image) -> str:
    """Name an image for a person: its path, or what it is; undecodable bytes in a file name are escaped."""
    if isinstance(image, Path):
        return str(image).encode("utf-8", "backslashreplace").decode()
    return "an image in memory"


def _jpeg_part(data: bytes, choose: Callable[[int, int], Box], least: tuple[int, int]) -> np.ndarray | None:
    """Return the part; None for files that want the careful way."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours not in PLAIN_COLOURS or height * width > MAX_PIXELS or _is_turned(data):
            return None
        top, left, bottom, right = choose(height, width)
        scale = next((s for s in SCALES if (bottom - top) // s >= least[0] and (right - left) // s >= least[1]), 1)
        pixels: np.ndarray = simplejpeg.decode_jpeg(
            data, "RGB", fastdct=True, fastupsample=True, min_height=-(-height // scale), min_width=-(-width // scale)
        )
    except (ValueError, IndexError):
        return None
    return pixels[top // scale : -(-bottom // scale), left // scale : -(-right // scale)]


def _is_turned(data: bytes) -> bool:
    """Tell whether a JPEG file has an EXIF block that says to turn it; a walk over the segments before the scan."""
    place = 2
    while data[place : place + 1] == MARKER and data[place + 1] != START_OF_SCAN:
        if data[place + 4 : place + 10] == EXIF:
            with Pictures.open(io.BytesIO(data), formats=("JPEG",)) as image:
                return bool(image.getexif().get(ORIENTATION, UPRIGHT) != UPRIGHT)
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return False
