"""The largest batch that fits, found by trying on a GPU, by counting bytes elsewhere."""

from __future__ import annotations

import gc
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from zoo.errors import TrainingFailed, fills_card
from zoo.training.machine.trial import undisturbed

if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo.training.machine.trial import Mode, Trial

MOST_ON_GPU = 1024
MOST_ELSEWHERE = 256
"""Larger ones make no step of a processor faster for each image, and every epoch has fewer of them."""
MARGIN = 1.1
"""What is tried is this much larger than what is taken: memory gets into pieces while a run goes on."""
KEPT_BESIDE = 3
"""Numbers that training keeps for each weight beside it and its gradient: two of AdamW, one of the moving average."""
SHARE_OF_FREE = 0.5
WORKING = 1.5
"""Peak of a step's memory over what its forward pass keeps for the backward pass; measured: 1.0 to 1.3."""


def largest_batch(trial: Trial, mode: Mode) -> int:
    """Return the most images that one step can take, a multiple of 8 from 8 on.

    Raises:
        TrainingFailed: not even two fit.
    """
    with undisturbed():
        if trial.device.startswith("cuda"):
            return search(lambda images: _fits(trial, mode, math.ceil(images * MARGIN)), MOST_ON_GPU)
        each = bytes_per_image(trial, mode) * WORKING
        return search(lambda images: images * each <= free_memory() * SHARE_OF_FREE, MOST_ELSEWHERE)


def search(fits: Callable[[int], bool], most: int) -> int:
    """Return the largest multiple of 8, or one of 2, 4, up to `most`, that fits: doubled, then halved in between.

    Raises:
        TrainingFailed: not even two fit.
    """
    good = next((images for images in (8, 4, 2) if fits(images)), 0)
    if not good:
        raise TrainingFailed("not even two images fit into memory; try a smaller --image-size or model")
    if good < 8:
        return good
    bad = 0
    while good < most and not bad:
        double = min(2 * good, most)
        good, bad = (double, 0) if fits(double) else (good, double)
    while bad - good > 8:
        middle = (good + bad) // 16 * 8
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def bytes_per_image(trial: Trial, mode: Mode) -> float:
    """Return what the forward pass keeps of each image for the backward pass."""
    model = trial.copied(mode.layout)

    def kept(images: int) -> int:
        found: dict[int, int] = {}

        def note(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            trial.step(model, trial.pixels(images), mode)
        return sum(found.values())

    # The difference leaves out what does not grow with the batch, such as the weights.
    return max(1.0, (kept(4) - kept(2)) / 2)


def free_memory() -> float:
    """Return the bytes that this process may still take, as far as the system tells."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        free = 0.5 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4e9
    return min(free, _free_in_container())


def _free_in_container() -> float:
    """Return what a container's limit leaves (cgroup version 2); infinite where there is none."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text().strip()
        used = (folder / "memory.current").read_text()
    except OSError:
        return math.inf
    return math.inf if limit == "max" else float(limit) - float(used)


def _fits(trial: Trial, mode: Mode, images: int) -> bool:
    try:
        model = trial.copied(mode.layout)
        beside = [torch.empty_like(p) for p in model.parameters() for _ in range(KEPT_BESIDE)]
        trial.step(model, trial.pixels(images), mode)
        del beside
    except RuntimeError as exc:
        if not fills_card(exc):
            raise
        return False
    finally:
        # The failed step's tensors go with this frame; what they leave in the allocator would make the next one fail.
        gc.collect()
        torch.cuda.empty_cache()
    return True
