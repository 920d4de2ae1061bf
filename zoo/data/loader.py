"""Batches of uint8 pixels, made by threads: the same bytes for any number of workers, from any step of any epoch."""

from __future__ import annotations

import os
import random
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from zoo.data.decode import to_rgb
from zoo.errors import ContractBroken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zoo.plugin import Split
    from zoo.preprocess import Preprocess

Batch = tuple[np.ndarray, np.ndarray]
"""uint8 [n, height, width, 3], and the labels."""


class Augmentation(Protocol):
    """What an augmentation plugin makes: an albumentations.Compose."""

    def __call__(self, *, image: np.ndarray) -> dict[str, Any]: ...
    def set_random_state(self, random_generator: np.random.Generator, py_random: random.Random) -> None: ...


def worker_count(asked: int) -> int:
    """Return how many threads prepare batches; -1 chooses: one fewer than the processors, at most 8."""
    return asked if asked >= 0 else max(1, min(8, (os.cpu_count() or 2) - 1))


@dataclass(frozen=True, kw_only=True)
class TrainLoader:
    """Shuffled, augmented batches. Every sample's randomness comes from (seed, epoch, index), never from a worker."""

    split: Split
    augmentation: Callable[[], Augmentation]
    """Makes one; each thread gets its own, since their random state is not shared safely."""
    size: tuple[int, int]
    batch_size: int
    seed: int
    workers: int = 0

    def __len__(self) -> int:
        return max(1, len(self.split) // self.batch_size)

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from step `start` on; a last, smaller batch is left out."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.split))
        steps = [order[i * self.batch_size : (i + 1) * self.batch_size] for i in range(start, len(self))]
        own = threading.local()

        def make(indices: np.ndarray) -> Batch:
            if not hasattr(own, "augmentation"):
                own.augmentation = self.augmentation()
            return self._batch(own.augmentation, epoch, indices)

        yield from in_order(make, steps, self.workers)

    def _batch(self, augmentation: Augmentation, epoch: int, indices: np.ndarray) -> Batch:
        pixels = np.empty((len(indices), *self.size, 3), np.uint8)
        for row, index in enumerate(indices):
            own = np.random.default_rng([self.seed, epoch, int(index)])
            # One generator for all: `set_random_seed` would give every transform the same numbers, and so tie them.
            augmentation.set_random_state(own, random.Random(int(own.integers(2**63))))
            image = augmentation(image=to_rgb(self.split.images[int(index)]))["image"]
            if image.dtype != np.uint8 or image.shape != pixels.shape[1:]:
                got, wanted = list(image.shape), list(pixels.shape[1:])
                raise ContractBroken(f"the augmentation returned {image.dtype} {got}, expected uint8 {wanted}")
            pixels[row] = image
        return pixels, self.split.labels[indices]


def evaluation_batches(
    split: Split, preprocess: Preprocess, *, batch_size: int = 64, workers: int = 0
) -> Iterator[Batch]:
    """Yield a whole split in order, each image prepared exactly as on the device."""

    def make(indices: np.ndarray) -> Batch:
        images = [preprocess.prepare(to_rgb(split.images[int(i)])) for i in indices]
        return np.stack(images), split.labels[indices]

    indices = np.arange(len(split))
    yield from in_order(make, [indices[i : i + batch_size] for i in range(0, len(split), batch_size)], workers)


def in_order(make: Callable[[np.ndarray], Batch], steps: list[np.ndarray], workers: int) -> Iterator[Batch]:
    """Yield `make(step)` for each step, in order, computed ahead by `workers` threads; 0 computes on demand."""
    if workers == 0:
        yield from map(make, steps)
        return
    waiting: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for step in steps:
                waiting.append(pool.submit(make, step))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
