"""The digits dataset: 1,797 handwritten digits that come with scikit-learn and need no network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from zoo.plugin import Dataset, Split

if TYPE_CHECKING:
    from pathlib import Path

ZOO_API = 1
BRIGHTEST = 16


def digits(root: Path) -> Dataset:
    """Return the digits as RGB pictures of 8 x 8 pixels, all in "train"; nothing is kept below `root`."""
    from sklearn.datasets import load_digits

    found = load_digits()
    grey = np.rint(found.images * (255 / BRIGHTEST)).astype(np.uint8)
    images = np.repeat(grey[..., np.newaxis], 3, axis=-1)
    return Dataset(
        classes=tuple(str(digit) for digit in found.target_names),
        splits={"train": Split(images=list(images), labels=found.target.astype(np.int64))},
        license="CC-BY-4.0",
        homepage="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
        citation=(
            "E. Alpaydin and C. Kaynak (1998). Optical Recognition of Handwritten Digits. "
            "UCI Machine Learning Repository. https://doi.org/10.24432/C50P49"
        ),
    )
