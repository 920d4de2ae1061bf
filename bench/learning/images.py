"""The images of a row and a seed, as folders that every side reads: train/CLASS, val/CLASS and test/CLASS."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.learning.rows import Row

Picture = Path | np.ndarray
"""A file, or RGB uint8 [height, width, 3]."""
Splits = Mapping[str, Sequence[Picture]]
"""Split -> the pictures of one class."""

TEST_IMAGES = 500
SHAPE_SIZE, PATCH = (160, 120), 64
LEAST = 2
"""Images of a class in val and in test, or their top-1 says nothing about it."""
TEXTURES = Path(__file__).parents[2] / "plugins" / "zoo-plugin-textures" / "src"


def write_images(row: Row, seed: int, photos: Path | None, folder: Path) -> None:
    """Write the images of a row below `folder`, anew for each seed; the same seed gives the same ones."""
    for name, splits in _classes(row, seed, photos):
        for split, pictures in splits.items():
            place = folder / split / name
            place.mkdir(parents=True)
            for index, picture in enumerate(pictures):
                if isinstance(picture, Path):
                    shutil.copy(picture, place)
                else:
                    Image.fromarray(picture).save(place / f"{index:05}.png")


def count_images(folder: Path, split: str) -> int:
    return sum(file.is_file() for file in (folder / split).rglob("*"))


def _classes(row: Row, seed: int, photos: Path | None) -> Iterator[tuple[str, Splits]]:
    if row.source == "stamps":
        if photos is None:
            raise ValueError("the stamps need the folder of the photographs")
        return _stamps(row.images, seed, photos / "photos")
    makers: dict[str, Callable[[int, int], Iterator[tuple[str, Splits]]]] = {
        "digits": _digits,
        "shapes": _shapes,
        "textures": _textures,
    }
    return makers[row.source](row.images, seed)


def _shares(images: int, classes: int) -> list[dict[str, int]]:
    """Return how many images of each class go where: as even as they come."""

    def share(total: int, label: int, least: int) -> int:
        return max(least, total // classes + (label < total % classes))

    return [
        {
            "train": share(images, label, 1),
            "val": share(images // 5, label, LEAST),
            "test": share(TEST_IMAGES, label, LEAST),
        }
        for label in range(classes)
    ]


def _cut(pictures: Sequence[Picture], sizes: dict[str, int], rng: np.random.Generator) -> Splits:
    """Deal pictures in random order; there may be fewer than asked for in the last split."""
    order, begin = rng.permutation(len(pictures)), 0
    splits: dict[str, list[Picture]] = {}
    for split, size in sizes.items():
        splits[split] = [pictures[index] for index in order[begin : begin + size]]
        begin += size
    return splits


def _stamps(images: int, seed: int, photos: Path) -> Iterator[tuple[str, Splits]]:
    """Photographs in seven classes of 9 to 65; those that are for neither train nor val are for test."""
    for label, place in enumerate(sorted(photos.iterdir())):
        pictures = sorted(place.iterdir())
        count = len(pictures)
        val = max(LEAST, round(images / 5 if images else 0.15 * count))
        train = min(images, count - val - LEAST) if images else round(0.6 * count)
        sizes = {"train": train, "val": val, "test": count - train - val}
        yield place.name, _cut(pictures, sizes, np.random.default_rng([seed, label]))


def _digits(images: int, seed: int) -> Iterator[tuple[str, Splits]]:
    """scikit-learn's, 8 x 8 pixels, some 180 of each; of the largest row fewer than 500 are left for test."""
    from zoo_plugins.digits import digits

    dataset = digits(Path())
    split = dataset.splits["train"]
    pictures = [np.asarray(image) for image in split.images]
    for label, (name, sizes) in enumerate(zip(dataset.classes, _shares(images, len(dataset.classes)), strict=True)):
        of_class = [pictures[index] for index in np.flatnonzero(split.labels == label)]
        yield name, _cut(of_class, sizes, np.random.default_rng([seed, label]))


def _shapes(images: int, seed: int) -> Iterator[tuple[str, Splits]]:
    """zoo's drawings; each is drawn from its number, so every seed has numbers of its own."""
    from zoo_plugins.shapes import CLASSES, draw

    for label, (name, sizes) in enumerate(zip(CLASSES, _shares(images, len(CLASSES)), strict=True)):
        begin, splits = 100_000 * seed, {}
        for split, size in sizes.items():
            splits[split] = [draw(label, begin + index, SHAPE_SIZE) for index in range(size)]
            begin += size
        yield name, splits


def _textures(images: int, seed: int) -> Iterator[tuple[str, Splits]]:
    """Patches as the plugin cuts them: they overlap, so each split has parts of the pictures to itself."""
    textures = _textures_plugin().TEXTURES
    for label, (name, sizes) in enumerate(zip(textures, _shares(images, len(textures)), strict=True)):
        rng = np.random.default_rng([seed, label])
        with (files("skimage") / "data" / textures[name].picture).open("rb") as file:
            pixels = np.asarray(Image.open(file).convert("RGB"))
        splits = {}
        for split, size in sizes.items():
            corners = np.concatenate([box.corners(PATCH) for box in textures[name].parts[split]])
            chosen = rng.choice(corners, size, replace=False)
            splits[split] = [pixels[y : y + PATCH, x : x + PATCH] for x, y in chosen]
        yield name, splits


def _textures_plugin() -> Any:
    try:
        return importlib.import_module("zoo_plugin_textures.dataset")
    except ModuleNotFoundError:
        sys.path.append(str(TEXTURES))
        return importlib.import_module("zoo_plugin_textures.dataset")
