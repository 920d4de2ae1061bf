"""From an image file to the model's pixels: the one decoder and the one resize, for training machine and device."""

from __future__ import annotations

import io
import math
import os
import stat
import warnings
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

if TYPE_CHECKING:
    from pathlib import Path

MAX_PIXELS = 64_000_000
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
_GIT_LFS = b"version https://git-lfs"


class PixelError(ValueError):
    """An image that cannot be decoded completely; the text says why."""


def decode(source: Path | bytes, *, max_pixels: int | None = None) -> np.ndarray:
    """Decode an image to RGB uint8 [H, W, 3]: EXIF orientation applied, alpha over white, first frame of several.

    Args:
        source: A file, or its bytes.
        max_pixels: Of a larger one only the header is read; `MAX_PIXELS` if None.

    Raises:
        PixelError: not an image of a known format, truncated, damaged, or over `max_pixels`.
    """
    most = MAX_PIXELS if max_pixels is None else max_pixels
    data = source if isinstance(source, bytes) else read_file(source)
    if not data:
        raise PixelError("is empty")
    if data.startswith(_GIT_LFS):
        raise PixelError("is a git-lfs pointer, not an image; run `git lfs pull`")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _decode(data, most)
    except (PixelError, MemoryError):
        raise
    except Exception as exc:  # Pillow raises OSError, SyntaxError, ValueError, struct.error and more for damaged files
        raise PixelError(_reason(exc, most)) from exc


def read_file(path: Path) -> bytes:
    """Return the content of a regular file; a pipe or a device would be waited for without end.

    Raises:
        PixelError: missing, not readable, or no regular file.
    """
    try:
        # Opened first and asked then, which is half the work; a pipe without a writer must not be waited for.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise PixelError("is not a regular file")
            return file.read()
    except IsADirectoryError as exc:
        raise PixelError("is not a regular file") from exc
    except OSError as exc:
        raise PixelError(f"cannot be read: {exc.strerror or exc}") from exc


def _decode(data: bytes, max_pixels: int) -> np.ndarray:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        if image.width * image.height > max_pixels:
            raise PixelError(
                f"has {image.width * image.height / 1e6:.3g} megapixels, over the limit of {max_pixels / 1e6:.3g}"
            )
        image.load()
        return np.asarray(_to_rgb(ImageOps.exif_transpose(image)))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow's own conversion clips 16-bit values to white.
        return Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise PixelError("holds floating-point pixels, whose range is not known; save it as 8 or 16 bits")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _reason(exc: Exception, max_pixels: int) -> str:
    text = str(exc)
    if isinstance(exc, Image.DecompressionBombError):
        return f"has hundreds of megapixels, over the limit of {max_pixels / 1e6:.3g}"
    if "cannot identify image file" in text:
        return f"is not an image of a known format ({', '.join(FORMATS)})"
    if "truncated" in text or "Truncated" in text:
        return "is truncated"
    return f"is damaged ({text or type(exc).__name__})"


def prepare(
    image: np.ndarray, size: tuple[int, int], crop: str, crop_fraction: float, interpolation: str
) -> np.ndarray:
    """Resize and crop RGB uint8 [H, W, 3] of any size to uint8 [height, width, 3], with Pillow's antialiased kernels.

    Args:
        image: RGB uint8 [H, W, 3].
        size: Height and width of the result.
        crop: "center" scales the shorter side to `size / crop_fraction` and cuts the middle out; "squash" scales both
            sides without keeping the aspect; "border" fits the whole image in and fills the rest with black.
        crop_fraction: In (0, 1]; the share of the scaled side that the crop keeps.
        interpolation: "nearest", "bilinear" or "bicubic".
    """
    if crop == "center":
        return _center(image, size, crop_fraction, interpolation)
    if crop == "squash":
        return _resize(image, size, interpolation)
    if crop == "border":
        return _border(image, size, interpolation)
    raise ValueError(f"unknown crop {crop!r}")


def _resize(image: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
    """Scale across, then down, each rounded to whole levels: Pillow 13 would choose the order, earlier ones did not."""
    if image.shape[:2] == size:
        return image
    kernel, (height, width) = INTERPOLATIONS[interpolation], size
    across = Image.fromarray(image).resize((width, image.shape[0]), kernel)
    return np.asarray(across.resize((width, height), kernel))


def _center(image: np.ndarray, size: tuple[int, int], crop_fraction: float, interpolation: str) -> np.ndarray:
    height, width = image.shape[:2]
    wanted = (math.floor(size[0] / crop_fraction), math.floor(size[1] / crop_fraction))
    # The side that needs the larger scale gets its exact length and the other follows, as torchvision rounds it.
    if wanted[0] * width >= wanted[1] * height:
        scaled = (wanted[0], int(wanted[0] * width / height))
    else:
        scaled = (int(wanted[1] * height / width), wanted[1])
    image = _resize(image, scaled, interpolation)
    top, left = round((scaled[0] - size[0]) / 2), round((scaled[1] - size[1]) / 2)
    return image[top : top + size[0], left : left + size[1]]


def _border(image: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
    height, width = image.shape[:2]
    scale = min(size[0] / height, size[1] / width)
    scaled = (max(1, round(height * scale)), max(1, round(width * scale)))
    canvas = np.zeros((*size, 3), np.uint8)
    top, left = (size[0] - scaled[0]) // 2, (size[1] - scaled[1]) // 2
    canvas[top : top + scaled[0], left : left + scaled[1]] = _resize(image, scaled, interpolation)
    return canvas
