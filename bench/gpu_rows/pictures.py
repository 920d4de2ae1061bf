"""JPEG files like photos, and a plain augmentation, by Pillow alone: where albumentations and OpenCV are missing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    import random
    from pathlib import Path

WIDTH, HEIGHT = 500, 375
SMALLEST = 0.35
"""Share of an image that a crop has at least, as zoo's default augmentation has it."""


def drawn(folder: Path, count: int) -> tuple[list[Path], np.ndarray]:
    """Return so many files, made unless they are there, and their labels, of ten classes."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{number}.jpg" for number in range(count)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(_draw, files, range(count)))
    return files, np.arange(count) % 10


def _draw(file: Path, number: int) -> None:
    """Write a picture with large shapes and fine grain, so that it has about as many bytes as a photo."""
    if file.exists():
        return
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize(
        (WIDTH, HEIGHT), Image.Resampling.BICUBIC
    )
    grain = rng.normal(0, 8, (HEIGHT, WIDTH, 3))
    pixels = np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(file, quality=85)


class PlainCrops:
    """A random crop, resized, half of them mirrored; the loader decodes no more than the crop."""

    def __init__(self, side: int) -> None:
        self._side = side
        self._rng = np.random.default_rng()

    def set_random_state(self, random_generator: np.random.Generator, py_random: random.Random) -> None:
        self._rng = random_generator

    def choose_crop(self, height: int, width: int) -> tuple[int, int, int, int]:
        share = self._rng.uniform(SMALLEST, 1) ** 0.5
        tall, wide = int(height * share), int(width * share)
        top, left = self._rng.integers(height - tall + 1), self._rng.integers(width - wide + 1)
        return int(top), int(left), int(top) + tall, int(left) + wide

    def finish(self, *, image: np.ndarray, out: np.ndarray | None = None) -> dict[str, Any]:
        small = Image.fromarray(image).resize((self._side, self._side), Image.Resampling.BILINEAR)
        pixels = np.asarray(small)
        pixels = pixels[:, ::-1] if self._rng.random() < 0.5 else pixels
        if out is None:
            return {"image": np.ascontiguousarray(pixels)}
        out[:] = pixels
        return {"image": out}

    def __call__(self, *, image: np.ndarray) -> dict[str, Any]:
        top, left, bottom, right = self.choose_crop(*image.shape[:2])
        return self.finish(image=image[top:bottom, left:right])
