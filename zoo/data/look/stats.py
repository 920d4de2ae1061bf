"""What a dataset is made of: images of each class in each split, their sizes, their colours."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.data.decode import to_rgb
from zoo.data.faults import Faults
from zoo.data.splits import class_counts
from zoo.errors import ImageUnreadable

if TYPE_CHECKING:
    from zoo.data.prepared import PreparedData

MOST_IMAGES = 1000
"""How many are decoded for sizes and colours, evenly spread over the training images."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How a side of the images varies, in pixels."""

    smallest: int
    median: int
    largest: int

    @classmethod
    def of(cls, values: list[int]) -> Spread:
        """Take at least one value."""
        return cls(smallest=min(values), median=int(np.median(values)), largest=max(values))

    def __str__(self) -> str:
        return f"smallest {self.smallest}, median {self.median}, largest {self.largest}"


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What a dataset is made of."""

    classes: list[str]
    images: dict[str, int]
    """Split -> how many."""
    per_class: dict[str, dict[str, int]]
    """Class -> split -> how many have it."""
    imbalance: float
    """Training images of the largest class over those of the smallest."""
    looked_at: int
    """Training images that sizes and colours come from."""
    height: Spread
    width: Spread
    mean: list[float]
    """Of R, G, B, on the scale 0..1."""
    std: list[float]
    left_out: dict[str, str]
    """Image -> what is wrong with it."""
    license: str

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def statistics(data: PreparedData) -> Statistics:
    """Count the images of every split, and decode some training images for sizes and colours."""
    counts = {name: class_counts(split.labels, len(data.classes)).tolist() for name, split in data.splits.items()}
    train = data.splits["train"]
    looked_at = np.unique(np.linspace(0, len(train) - 1, min(len(train), MOST_IMAGES)).astype(int))
    heights, widths, sums, squares, faults = [], [], np.zeros(3), np.zeros(3), Faults()
    for index in looked_at.tolist():
        try:
            pixels = to_rgb(train.images[index])
        except ImageUnreadable as exc:
            faults.note(train.images, index, exc)
            continue
        heights.append(pixels.shape[0])
        widths.append(pixels.shape[1])
        flat = pixels.reshape(-1, 3) / 255.0
        sums += flat.mean(0)
        squares += (flat**2).mean(0)
    mean = sums / len(heights)
    largest, smallest = max(counts["train"]), min(counts["train"])
    return Statistics(
        classes=list(data.classes),
        images={name: len(split) for name, split in data.splits.items()},
        per_class={name: {s: counts[s][i] for s in counts} for i, name in enumerate(data.classes)},
        imbalance=round(largest / max(1, smallest), 2),
        looked_at=len(heights),
        height=Spread.of(heights),
        width=Spread.of(widths),
        mean=np.round(mean, 4).tolist(),
        std=np.round(np.sqrt(np.maximum(squares / len(heights) - mean**2, 0)), 4).tolist(),
        left_out={**data.skipped, **faults.found},
        license=data.license,
    )
