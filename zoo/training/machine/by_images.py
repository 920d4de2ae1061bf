"""What batch and epochs come to by the number of training images, on every machine the same."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from zoo.records.options import USUAL_EPOCHS

if TYPE_CHECKING:
    from zoo.records.config import TrainConfig
    from zoo.training.machine.choose import Chosen

SMALLEST_BATCH, LARGEST_BATCH = 16, 64
FEWEST_STEPS = 16
"""Steps that an epoch should have."""
FEWEST_UPDATES = 200
"""Steps that a run should have whose epochs nobody has counted."""
MOST_EPOCHS = 20
"""Nor does it get more epochs than these."""


def batch_for(images: int, most: int = LARGEST_BATCH) -> int:
    """Return an even batch size that leaves an epoch of so many images enough steps to learn in."""
    return max(2, min(most, max(SMALLEST_BATCH, images // FEWEST_STEPS), images) // 2 * 2)


def epochs_for(images: int, batch_size: int) -> int:
    """Return the usual number of epochs, or as many more as few images need for enough steps."""
    steps = max(1, images // batch_size)
    return min(MOST_EPOCHS, max(USUAL_EPOCHS, math.ceil(FEWEST_UPDATES / steps)))


def settled(config: TrainConfig, chosen: Chosen) -> TrainConfig:
    """Return the options with the number of epochs that `auto` came to."""
    return config.model_copy(update={"epochs": chosen.epochs}) if config.epochs == "auto" and chosen.epochs else config
