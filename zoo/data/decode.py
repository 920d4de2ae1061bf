"""One image of a split -> RGB uint8: whole and careful as on the device, or just the part that training wants."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.data.jpeg import JPEG, jpeg_part
from zoo.errors import ContractBroken, ImageUnreadable
from zoo.runtime.pixels import PixelError, decode, read_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo.contracts.plugins import Image
    from zoo.data.jpeg import Box


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
        part = jpeg_part(data, choose, least) if data.startswith(JPEG) else None
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
