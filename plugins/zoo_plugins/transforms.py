"""Pipelines that crop first, so that no more of an image is decoded than they need; and a cheap, alias-free resize."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import albumentations as A
import cv2

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    import numpy as np

Box = tuple[int, int, int, int]
"""Top, left, bottom and right, in pixels; the last two are outside."""

TRIES = 10


class Crop(Protocol):
    """Chooses a part of an image from its size alone."""

    def __call__(self, height: int, width: int, draw: random.Random) -> Box: ...


class CropFirst(A.Compose):  # type: ignore[misc]
    """Crops, resizes to `height` x `width`, then applies the other transforms.

    The two halves can be called apart, which is how zoo's loader does it: `choose_crop` tells what part of an image of
    some size is wanted, `finish` takes that part, at the image's own resolution or a coarser one.
    """

    def __init__(self, height: int, width: int, crop: Crop, transforms: Sequence[A.BasicTransform | A.Compose]) -> None:
        super().__init__(transforms)
        self.size = (height, width)
        self.crop = crop

    def choose_crop(self, height: int, width: int) -> Box:
        """Draw the part of an image of that size, in pixels, which `finish` is to get."""
        return self.crop(height, width, self.py_random)

    def finish(self, *, image: np.ndarray, out: np.ndarray | None = None) -> dict[str, Any]:
        """Do to RGB uint8 [h, w, 3], the part that was chosen, what remains to be done."""
        # Not as a transform: albumentations would copy the part beforehand. Nor through `Compose`, which looks after
        # boxes and masks as well: it costs as much again as mirroring.
        done: dict[str, Any] = {"image": resize(image, *self.size, out)}
        for transform in self.transforms:
            done = transform(**done)
        return done

    def __call__(self, *args: Any, image: np.ndarray, **kwargs: Any) -> dict[str, Any]:
        """Do both to RGB uint8 [H, W, 3]."""
        top, left, bottom, right = self.choose_crop(*image.shape[:2])
        return self.finish(image=image[top:bottom, left:right])


class ResizeToCover(A.ImageOnlyTransform):  # type: ignore[misc]
    """Crop as `Cover` does, then resize; for the end of a pipeline."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__(p=1.0)
        self.cover = Cover(height, width)

    def apply(self, img: np.ndarray, **params: Any) -> np.ndarray:
        """Crop first, so that a very long image never becomes a huge one on its way."""
        height, width = img.shape[:2]
        top, left, bottom, right = self.cover(height, width, self.py_random)
        return resize(img[top:bottom, left:right], self.cover.height, self.cover.width)


class Cover:
    """The largest part, from the middle, that has the shape of `height` x `width`: nothing is random."""

    def __init__(self, height: int, width: int) -> None:
        self.height = height
        self.width = width

    def __call__(self, height: int, width: int, draw: random.Random) -> Box:
        """Keep one side whole and cut the other evenly."""
        scale = min(height / self.height, width / self.width)
        rows = min(height, max(1, round(self.height * scale)))
        columns = min(width, max(1, round(self.width * scale)))
        top, left = (height - rows) // 2, (width - columns) // 2
        return top, left, top + rows, left + columns


class RandomArea:
    """A part of random area, aspect and place (Szegedy et al., Going Deeper with Convolutions, 2014)."""

    def __init__(self, area: tuple[float, float], aspect: tuple[float, float]) -> None:
        self.area = area
        """Share of the image, from and to, in 0..1."""
        self.aspect = aspect
        """Width over height, from and to."""

    def __call__(self, height: int, width: int, draw: random.Random) -> Box:
        """Draw until a part fits; after a few tries take the largest from the middle."""
        low, high = (math.log(limit) for limit in self.aspect)
        for _ in range(TRIES):
            area = height * width * draw.uniform(*self.area)
            aspect = math.exp(draw.uniform(low, high))
            rows, columns = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
            if 0 < rows <= height and 0 < columns <= width:
                top, left = draw.randint(0, height - rows), draw.randint(0, width - columns)
                return top, left, top + rows, left + columns
        aspect = min(max(width / height, self.aspect[0]), self.aspect[1])
        return Cover(1000, round(1000 * aspect))(height, width, draw)


def resize(image: np.ndarray, height: int, width: int, out: np.ndarray | None = None) -> np.ndarray:
    """Return RGB uint8 [height, width, 3], in `out` if it is given.

    Halving by area and one linear step cost 0.3 ms for a crop of 1500 x 800 pixels, the full area filter 2.9 ms.
    """
    rows, columns = image.shape[:2]
    while rows >= 2 * height and columns >= 2 * width:
        rows, columns = rows // 2, columns // 2
        image = cv2.resize(image[: 2 * rows, : 2 * columns], (columns, rows), interpolation=cv2.INTER_AREA)
    if (rows, columns) == (height, width):
        if out is None:
            return image.copy()
        out[:] = image
        return out
    # Only where an image becomes much larger is the smoother kernel worth three times the time.
    much_larger = 2 * rows <= height and 2 * columns <= width
    kernel = cv2.INTER_CUBIC if much_larger else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), dst=out, interpolation=kernel)
