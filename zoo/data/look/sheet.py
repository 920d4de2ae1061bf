"""A contact sheet: pictures side by side under their class, or one picture many times as training sees it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from zoo.data.decode import to_rgb
from zoo.data.splits import members_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zoo.contracts.plugins import Split

SIDE = 128
CAPTION = 16
GAP = 4
COLUMNS = 8
INK, PAPER = (32, 32, 32), (255, 255, 255)


def sheet_of_classes(split: Split, classes: Sequence[str], *, each: int, seed: int) -> Image.Image:
    """Draw `each` images of every class, chosen from the seed; a row or more for each class."""
    cells: list[list[tuple[str, np.ndarray]]] = []
    for label, name in enumerate(classes):
        chosen = np.random.default_rng([seed, label]).permutation(members_of(split.labels, label))[:each]
        cells.append([(f"{name} #{index}", to_rgb(split.images[int(index)])) for index in sorted(chosen.tolist())])
    return _draw(cells)


def sheet_of_one(image: np.ndarray, augmentation: Callable[[], Any], *, count: int, seed: int) -> Image.Image:
    """Draw one image as it is, then `count` times through an augmentation, each with a random state of its own."""
    transform = augmentation()
    cells = [("as it is", image)]
    for number in range(count):
        own = np.random.default_rng([seed, number])
        transform.set_random_state(own, random.Random(int(own.integers(2**63))))
        cells.append((f"epoch {number}", transform(image=image)["image"]))
    return _draw([cells])


def _draw(rows: Sequence[Sequence[tuple[str, np.ndarray]]]) -> Image.Image:
    lines = [list(row[i : i + COLUMNS]) for row in rows for i in range(0, max(1, len(row)), COLUMNS)]
    width = GAP + max(len(line) for line in lines) * (SIDE + GAP)
    sheet = Image.new("RGB", (max(width, SIDE), GAP + len(lines) * (SIDE + CAPTION + GAP)), PAPER)
    pen = ImageDraw.Draw(sheet)
    for y, line in enumerate(lines):
        for x, (caption, pixels) in enumerate(line):
            left, top = GAP + x * (SIDE + GAP), GAP + y * (SIDE + CAPTION + GAP)
            picture = ImageOps.contain(Image.fromarray(pixels), (SIDE, SIDE))
            sheet.paste(picture, (left + (SIDE - picture.width) // 2, top + (SIDE - picture.height) // 2))
            # A class may be named in letters that the built-in font lacks.
            text = caption.encode("latin-1", "replace").decode("latin-1")
            pen.text((left, top + SIDE), text[:20], fill=INK)
    return sheet
