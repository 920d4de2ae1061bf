"""Fifteen ways in which the field spoils a picture, each in five strengths, the same for the same seed."""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from zoo.data.decode import to_rgb

if TYPE_CHECKING:
    from zoo.contracts import plugins
    from zoo.contracts.preprocess import Preprocess

STRENGTHS = 5
HAZE = 225
Corrupt = Callable[["plugins.Image", "Preprocess", np.random.Generator], np.ndarray]
"""An image, how it is prepared, and where chance comes from -> uint8 [height, width, 3], as the network gets it."""
Spoil = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
"""Prepared pixels and a strength -> what is left of them."""


def corruptions() -> dict[str, tuple[Corrupt, ...]]:
    """Return name -> one for each strength, the weakest first.

    The kinds are those of Hendrycks and Dietterich ("Benchmarking neural network robustness to common corruptions and
    perturbations", ICLR 2019) without the weather, and with what deployments add: darkness, haze, and a resize by
    another library. Strengths are meant for pictures of any size: distances are shares of the shorter side.
    """
    found = {
        name: tuple(functools.partial(_spoiled, spoil, s) for s in steps) for name, (spoil, steps) in KINDS.items()
    }
    return {**found, "another resize": tuple(functools.partial(_resized, kernel) for kernel in KERNELS)}


def _spoiled(
    spoil: Spoil, strength: float, image: plugins.Image, preprocess: Preprocess, rng: np.random.Generator
) -> np.ndarray:
    pixels = spoil(preprocess.prepare(to_rgb(image)), strength, rng)
    found: np.ndarray = np.rint(pixels).clip(0, 255).astype(np.uint8)
    return found


def _gaussian_noise(pixels: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    return pixels + rng.normal(0, 255 * strength, pixels.shape)


def _shot_noise(pixels: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Count photons: the fewer there are, the more chance decides."""
    return rng.poisson(pixels / 255 / strength) * 255 * strength


def _impulse_noise(pixels: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    drawn = rng.random(pixels.shape[:2])[..., None]
    return np.where(drawn < strength / 2, 0, np.where(drawn > 1 - strength / 2, 255, pixels))


def _lighter(pixels: np.ndarray, strength: float, _: np.random.Generator) -> np.ndarray:
    return pixels + 255 * strength


def _less_contrast(pixels: np.ndarray, strength: float, _: np.random.Generator) -> np.ndarray:
    mean = float(pixels.mean())
    found: np.ndarray = mean + (pixels - mean) * (1 - strength)
    return found


def _pale(pixels: np.ndarray, strength: float, _: np.random.Generator) -> np.ndarray:
    return np.asarray(ImageEnhance.Color(Image.fromarray(pixels)).enhance(1 - strength))


def _hazy(pixels: np.ndarray, strength: float, _: np.random.Generator) -> np.ndarray:
    return pixels * (1 - strength) + HAZE * strength


def _jpeg(pixels: np.ndarray, quality: float, _: np.random.Generator) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=int(quality))
    return np.asarray(Image.open(file).convert("RGB"))


def _gaussian_blur(pixels: np.ndarray, strength: float, _: np.random.Generator) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(_side(pixels) * strength)))


def _defocus(pixels: np.ndarray, strength: float, _: np.random.Generator) -> np.ndarray:
    """Spread each point over a disk."""
    radius = _side(pixels) * strength
    reach = math.ceil(radius)
    around = range(-reach, reach + 1)
    return _spread(pixels, [(y, x) for y in around for x in around if y * y + x * x <= radius * radius + 0.5])


def _motion_blur(pixels: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Spread each point over a line, in any direction."""
    angle, length = rng.uniform(0, math.pi), _side(pixels) * strength
    steps = np.linspace(-length / 2, length / 2, max(2, math.ceil(length) + 1))
    return _spread(pixels, [(round(s * math.sin(angle)), round(s * math.cos(angle))) for s in steps])


def _spread(pixels: np.ndarray, places: list[tuple[int, int]]) -> np.ndarray:
    """Return the mean of a picture moved to places, (down, right) in pixels, its edges repeated."""
    reach = max(max(abs(y), abs(x)) for y, x in places)
    padded = np.pad(pixels.astype(np.float32), ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    height, width = pixels.shape[:2]
    moved = (padded[reach + y : reach + y + height, reach + x : reach + x + width] for y, x in places)
    total: np.ndarray = sum(moved, np.zeros(pixels.shape, np.float32))
    return total / len(places)


def _zoom_blur(pixels: np.ndarray, strength: float, _: np.random.Generator) -> np.ndarray:
    """Average a picture with itself, nearer and nearer."""
    image, total = Image.fromarray(pixels), np.zeros(pixels.shape, np.float32)
    factors = np.linspace(1, 1 + strength, 10)
    for factor in factors:
        inset = (1 - 1 / factor) / 2
        box = (image.width * inset, image.height * inset, image.width * (1 - inset), image.height * (1 - inset))
        total += np.asarray(image.resize(image.size, Image.Resampling.BILINEAR, box=box))
    return total / len(factors)


def _pixelate(pixels: np.ndarray, share: float, _: np.random.Generator) -> np.ndarray:
    image = Image.fromarray(pixels)
    coarse = (max(1, int(image.width * share)), max(1, int(image.height * share)))
    small = image.resize(coarse, Image.Resampling.BOX)
    return np.asarray(small.resize(image.size, Image.Resampling.NEAREST))


def _side(pixels: np.ndarray) -> int:
    return int(min(pixels.shape[:2]))


KINDS: dict[str, tuple[Spoil, tuple[float, ...]]] = {
    "gaussian noise": (_gaussian_noise, (0.04, 0.08, 0.12, 0.18, 0.26)),
    "shot noise": (_shot_noise, (0.004, 0.012, 0.03, 0.07, 0.14)),
    "impulse noise": (_impulse_noise, (0.01, 0.03, 0.06, 0.1, 0.17)),
    "brightness": (_lighter, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "darkness": (_lighter, (-0.1, -0.2, -0.3, -0.4, -0.5)),
    "low contrast": (_less_contrast, (0.2, 0.35, 0.5, 0.65, 0.8)),
    "pale colours": (_pale, (0.2, 0.4, 0.6, 0.8, 1.0)),
    "haze": (_hazy, (0.15, 0.3, 0.45, 0.6, 0.7)),
    "jpeg": (_jpeg, (50, 30, 20, 12, 6)),
    "gaussian blur": (_gaussian_blur, (0.006, 0.01, 0.015, 0.022, 0.03)),
    "defocus": (_defocus, (0.01, 0.017, 0.025, 0.035, 0.045)),
    "motion blur": (_motion_blur, (0.03, 0.05, 0.07, 0.1, 0.14)),
    "zoom blur": (_zoom_blur, (0.04, 0.08, 0.12, 0.18, 0.25)),
    "pixelate": (_pixelate, (0.8, 0.65, 0.5, 0.4, 0.3)),
}
KERNELS = ("bilinear", "bicubic", "box", "linear, not smoothed", "nearest")


def _resized(kernel: str, image: plugins.Image, preprocess: Preprocess, _: np.random.Generator) -> np.ndarray:
    """Scale by another kernel, or as OpenCV does by default, to where only the crop is left to do."""
    rgb = to_rgb(image)
    if kernel in ("bilinear", "bicubic", "nearest"):
        return replace(preprocess, interpolation=kernel).prepare(rgb)  # type: ignore[arg-type]
    picture, size = Image.fromarray(rgb), _scaled(rgb.shape[1], rgb.shape[0], preprocess)
    if kernel == "box":
        return preprocess.prepare(np.asarray(picture.resize(size, Image.Resampling.BOX)))
    # Four neighbours, however far apart the new pixels are.
    matrix = (picture.width / size[0], 0, 0, 0, picture.height / size[1], 0)
    scaled = picture.transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    return preprocess.prepare(np.asarray(scaled))


def _scaled(width: int, height: int, preprocess: Preprocess) -> tuple[int, int]:
    """Return the width and height that preparing scales an image to before it crops."""
    rows, columns = preprocess.size
    if preprocess.crop == "squash":
        return columns, rows
    if preprocess.crop == "border":
        factor = min(columns / width, rows / height)
    else:
        factor = max(columns / width, rows / height) / preprocess.crop_fraction
    return max(1, round(width * factor)), max(1, round(height * factor))
