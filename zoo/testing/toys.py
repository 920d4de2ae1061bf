"""Small things to test with: pictures that a small network can tell apart, and such a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

CLASSES = ("ant", "bee", "cat", "dog")
SIDE = 32


def noise(height: int, width: int, *, seed: int = 0) -> np.ndarray:
    """Return uint8 [height, width, 3] in which no two places look the same."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def pictures(count: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return uint8 [count, SIDE, SIDE, 3], stripes in a colour for each class, and their labels, int64 [count]."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % len(CLASSES)
    x, y = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    images = []
    for label in labels:
        stripes = np.sin((x * (label + 1) + y * (len(CLASSES) - label)) / 6 + rng.uniform(0, 6))
        colour = np.roll([90, 30, -40], label)
        images.append(120 + 50 * stripes[..., None] + colour + rng.normal(0, 12, (SIDE, SIDE, 3)))
    return np.stack(images).clip(0, 255).astype(np.uint8), labels.astype(np.int64)


def tiny_backbone(*, branching: bool = False) -> torch.nn.Module:
    """Return a convolutional network for SIDE pixels with sane statistics, in eval mode.

    `branching` makes its Python code depend on the pixels, so that no tracer can catch it.
    """
    import torch

    from zoo.contracts.preprocess import Preprocess
    from zoo.testing.tiny import TinyNet

    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = TinyNet(len(CLASSES), branching=branching)
        images, _ = pictures(64, seed=9)
        with torch.no_grad():
            Preprocess(size=(SIDE, SIDE)).wrap(backbone).train()(torch.from_numpy(images))
    return backbone.eval()
