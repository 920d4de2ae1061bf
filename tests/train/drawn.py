"""Pictures of marks that may be there or not, each alone: a multi-label dataset that a small network learns at once."""

from __future__ import annotations

import csv
import inspect
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from timm.data import Mixup

if TYPE_CHECKING:
    from pathlib import Path

MARKS = ("red", "bar", "dot")
OPTIONS = {"label": ",".join(MARKS)}
mixes_labels = pytest.mark.skipif("multi_label" not in inspect.signature(Mixup).parameters, reason="needs timm 1.0.31")
SPLITS = ("train", "train", "train", "val", "test", "train")


def draw(marks: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Draw 32 x 32 pixels with the marks, bool [3]."""
    pixels = rng.normal(90, 12, (32, 32, 3))
    if marks[0]:
        pixels[..., 0] += 90
    if marks[1]:
        row = rng.integers(3, 26)
        pixels[row : row + 4] = (20, 230, 40)
    if marks[2]:
        column = rng.integers(2, 22)
        pixels[8:18, column : column + 8] = 240
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def draw_dataset(folder: Path, *, count: int = 360) -> Path:
    """Write pictures and `labels.csv`, with a column of 0 and 1 for each mark and one with all their names."""
    rng = np.random.default_rng(0)
    table = folder / "labels.csv"
    with table.open("w", newline="") as file:
        write = csv.writer(file).writerow
        write(["path", "names", *MARKS, "split"])
        for number in range(count):
            marks = rng.random(3) < (0.5, 0.4, 0.25)
            draw(marks, rng).save(folder / f"{number}.png")
            names = ";".join(name for name, there in zip(MARKS, marks, strict=True) if there)
            write([f"{number}.png", names, *marks.astype(int), SPLITS[number % len(SPLITS)]])
    return table
