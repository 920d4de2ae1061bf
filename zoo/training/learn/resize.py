"""Progressive resizing: small images at first, larger ones from epoch to epoch; an early epoch costs a fraction.

Method: Tan and Le, "EfficientNetV2: Smaller Models and Faster Training" (ICML 2021, arXiv 2104.00298), without its
change of augmentation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from zoo.errors import OptionInvalid, first_line

if TYPE_CHECKING:
    from zoo.records.config import TrainConfig

GRID = 32
"""Sides are multiples of it, as most networks halve them five times; the last size is the model's own."""


@dataclass(frozen=True, kw_only=True)
class Growth:
    """Which size the images of an epoch have."""

    full: tuple[int, int]
    """Height and width at the end."""
    start: int
    """The shorter side in the first epoch; 0 means that all have the full size."""
    epochs: int
    """Those before the first one of full size."""

    def size(self, epoch: int) -> tuple[int, int]:
        """Return height and width of an epoch, counted from 0."""
        if not self.start or epoch >= self.epochs:
            return self.full
        first = self.start / min(self.full)
        share = first + (1 - first) * epoch / self.epochs
        height, width = (min(side, max(1, round(side * share / GRID)) * GRID) for side in self.full)
        return height, width

    def __call__(self, images: torch.Tensor, epoch: int) -> torch.Tensor:
        """Scale a batch of input, float32 [N, 3, H, W], to the epoch's size."""
        size = self.size(epoch)
        if size == tuple(images.shape[2:]):
            return images
        return torch.nn.functional.interpolate(images, size, mode="bilinear", antialias=True)


def make_growth(config: TrainConfig, size: tuple[int, int]) -> Growth:
    """Return what `image_size_start` and `image_size_growth` ask for; `size` is the model's height and width."""
    return Growth(
        full=size, start=config.image_size_start, epochs=math.ceil(config.epoch_count * config.image_size_growth)
    )


@torch.inference_mode()
def check_growth(model: torch.nn.Module, growth: Growth) -> None:
    """Raise OptionInvalid if the first size is not smaller, or the model cannot take it."""
    height, width = growth.size(0)
    if growth.start >= min(growth.full):
        raise OptionInvalid(
            f"image_size_start = {growth.start} is to be smaller than the {min(growth.full)} pixels at the end; "
            "leave it out, or raise --image-size"
        )
    if not growth.start:
        return
    parameter, training = next(model.parameters()), model.training
    try:
        model.eval()(torch.zeros(2, 3, height, width, device=parameter.device))
    except Exception as exc:  # each network fails in its own way
        raise OptionInvalid(
            f"image_size_start = {growth.start}: this model cannot take {height} x {width}: {first_line(exc)}; "
            "leave it out"
        ) from exc
    finally:
        model.train(training)
