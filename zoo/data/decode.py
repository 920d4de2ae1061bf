"""One image of a split -> RGB uint8, through the decoder that the device uses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import ContractBroken, ImageUnreadable
from zoo.runtime.pixels import PixelError, decode

if TYPE_CHECKING:
    from zoo.plugin import Image


def to_rgb(image: Image) -> np.ndarray:
    """Return RGB uint8 [H, W, 3].

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


def describe(image: Image) -> str:
    """Name an image for a person: its path, or what it is; undecodable bytes in a file name are escaped."""
    if isinstance(image, Path):
        return str(image).encode("utf-8", "backslashreplace").decode()
    return "an image in memory"
