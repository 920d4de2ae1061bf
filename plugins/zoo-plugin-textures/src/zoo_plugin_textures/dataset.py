"""The textures dataset: patches of brick, fur, grass, gravel, retina and wood, cut from scikit-image's pictures."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.resources import files
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from zoo.plugin import Dataset, DatasetInvalid, Split

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from PIL.Image import Image

ZOO_API = 1
SMALLEST = 8
FEWEST = 10


@dataclass(frozen=True)
class Box:
    """A part of a picture, in pixels; `right` and `bottom` lie outside, as in Pillow."""

    left: int
    top: int
    right: int
    bottom: int

    def count(self, size: int) -> int:
        """Return at how many pixels a square of `size` can begin."""
        return max(0, self.bottom - self.top - size + 1) * max(0, self.right - self.left - size + 1)

    def corners(self, size: int) -> np.ndarray:
        """Return these pixels, int [count, 2]: x and y."""
        across, down = np.arange(self.left, self.right - size + 1), np.arange(self.top, self.bottom - size + 1)
        return np.stack(np.meshgrid(across, down), axis=-1).reshape(-1, 2)


@dataclass(frozen=True)
class Texture:
    """A picture that scikit-image brings along, and the parts of it that each split may be cut from."""

    picture: str
    parts: Mapping[str, tuple[Box, ...]]


def _texture(picture: str, train: tuple[Box, ...], val: Box, test: Box) -> Texture:
    return Texture(picture, {"train": train, "val": (val,), "test": (test,)})


# Patches overlap, so random ones would show the validation images in training: each split has parts to itself.
TEXTURES = {
    "brick": _texture("brick.png", (Box(0, 0, 308, 512),), Box(308, 0, 410, 512), Box(410, 0, 512, 512)),
    # Forehead and nose, forehead, cheek: the rest of the cat is eyes and whiskers.
    "fur": _texture(
        "chelsea.png", (Box(200, 0, 330, 84), Box(213, 88, 285, 215)), Box(85, 0, 200, 84), Box(100, 152, 213, 232)
    ),
    "grass": _texture("grass.png", (Box(0, 0, 308, 512),), Box(308, 0, 410, 512), Box(410, 0, 512, 512)),
    "gravel": _texture("gravel.png", (Box(0, 0, 308, 512),), Box(308, 0, 410, 512), Box(410, 0, 512, 512)),
    # The largest square inside the round picture, whose corners are black.
    "retina": _texture("retina.jpg", (Box(215, 215, 1195, 803),), Box(215, 803, 1195, 999), Box(215, 999, 1195, 1195)),
    # The table right of the cup, which grows darker downwards: train has both ends.
    "wood": _texture(
        "coffee.png", (Box(480, 0, 600, 100), Box(480, 300, 600, 400)), Box(480, 100, 600, 200), Box(480, 200, 600, 300)
    ),
}


def textures(root: Path, *, size: int = 64, count: int = 100) -> Dataset:
    """Cut labelled patches into PNG files below `root`, unless they are there, and describe them.

    Args:
        root: The folder to keep the files in.
        size: Height and width of a patch in pixels, 8 to 72.
        count: Patches of each class: a tenth of them for val, a tenth for test, the rest for train.

    Raises:
        DatasetInvalid: an option is out of range, or scikit-image lacks a picture.
    """
    shares = _shares(count)
    _check_size(size)
    _check_room(size, count, shares)
    folder = root / f"{size}-{count}"
    if not folder.is_dir():
        _write(folder, size, shares)
    return Dataset(
        classes=tuple(TEXTURES),
        splits={split: _split(folder / split, number) for split, number in shares.items()},
        license="CC0-1.0",
        homepage="https://scikit-image.org/docs/stable/api/skimage.data.html",
        citation="S. van der Walt et al. (2014). scikit-image: image processing in Python. PeerJ 2:e453.",
    )


def _shares(count: int) -> dict[str, int]:
    if count < FEWEST:
        raise DatasetInvalid(f"count={count} is too few for three splits; give {FEWEST} or more")
    tenth = count // 10
    return {"train": count - 2 * tenth, "val": tenth, "test": tenth}


def _check_size(size: int) -> None:
    boxes = [box for texture in TEXTURES.values() for boxes in texture.parts.values() for box in boxes]
    largest = min(min(box.right - box.left, box.bottom - box.top) for box in boxes)
    if not SMALLEST <= size <= largest:
        raise DatasetInvalid(f"size={size} does not fit into the pictures' parts; give {SMALLEST} to {largest} pixels")


def _check_room(size: int, count: int, shares: dict[str, int]) -> None:
    for split, number in shares.items():
        fewest = min(sum(box.count(size) for box in texture.parts[split]) for texture in TEXTURES.values())
        if number > fewest:
            raise DatasetInvalid(
                f"count={count} asks for {number} different patches for {split}, "
                f"size={size} leaves {fewest}; make count or size smaller"
            )


def _split(folder: Path, number: int) -> Split:
    return Split(
        images=[folder / name / _file_name(i) for name in TEXTURES for i in range(number)],
        labels=np.repeat(np.arange(len(TEXTURES), dtype=np.int64), number),
    )


def _file_name(index: int) -> str:
    return f"{index:05}.png"


def _write(folder: Path, size: int, shares: dict[str, int]) -> None:
    """Write all patches to a temporary folder, then rename it, so that a killed call leaves nothing under the name."""
    rng = np.random.default_rng(0)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        # A folder inside, since the temporary one itself may be read by its owner only.
        unfinished = folder.parent / scratch / folder.name
        for name, texture in TEXTURES.items():
            picture = _picture(texture)
            for split, number in shares.items():
                corners = np.concatenate([box.corners(size) for box in texture.parts[split]])
                chosen = rng.choice(corners, number, replace=False)
                _write_patches(picture, chosen.tolist(), size, unfinished / split / name)
        try:
            unfinished.rename(folder)
        except OSError:
            # Another process may have been faster; its files are the same.
            if not folder.is_dir():
                raise


def _picture(texture: Texture) -> Image:
    # Pillow costs every `zoo list` too much, so it waits until pixels are wanted.
    from PIL import Image

    try:
        with (files("skimage") / "data" / texture.picture).open("rb") as file:
            picture = Image.open(file).convert("RGB")
    except OSError as exc:
        raise DatasetInvalid(
            f"scikit-image has no readable {texture.picture}; install scikit-image>=0.25 once more"
        ) from exc
    boxes = [box for boxes in texture.parts.values() for box in boxes]
    if picture.width < max(box.right for box in boxes) or picture.height < max(box.bottom for box in boxes):
        # Pillow would fill up with black without a word.
        raise DatasetInvalid(
            f"scikit-image's {texture.picture} has shrunk to {picture.width} x {picture.height}; "
            "install a newer zoo-plugin-textures"
        )
    return picture


def _write_patches(picture: Image, corners: list[tuple[int, int]], size: int, folder: Path) -> None:
    folder.mkdir(parents=True)
    for index, (left, top) in enumerate(corners):
        with (folder / _file_name(index)).open("wb") as file:
            picture.crop((left, top, left + size, top + size)).save(file, "PNG")
            # The rename must not outlive the pixels when the power goes.
            file.flush()
            os.fsync(file.fileno())
