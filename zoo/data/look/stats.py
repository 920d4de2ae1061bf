"""What a dataset is made of: images of each class in each split, their sizes, their colours."""

from __future__ import annotations

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


def statistics(data: PreparedData) -> dict[str, Any]:
    """Return plain values; sizes in pixels, colours of R, G, B on the scale 0..1."""
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
    return {
        "classes": list(data.classes),
        "images": {name: len(split) for name, split in data.splits.items()},
        "per_class": {name: {s: counts[s][i] for s in counts} for i, name in enumerate(data.classes)},
        "imbalance": round(largest / max(1, smallest), 2),
        "looked_at": len(heights),
        "height": _spread(heights),
        "width": _spread(widths),
        "mean": np.round(mean, 4).tolist(),
        "std": np.round(np.sqrt(np.maximum(squares / len(heights) - mean**2, 0)), 4).tolist(),
        "left_out": {**data.skipped, **faults.found},
        "license": data.license,
    }


def _spread(values: list[int]) -> dict[str, int]:
    return {"smallest": min(values), "median": int(np.median(values)), "largest": max(values)}
