"""Batches of uint8 pixels, made by threads: the same bytes for any number of workers, from any step of any epoch."""

from __future__ import annotations

import functools
import itertools
import os
import random
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from zoo.contracts.plugins import CropsFirst
from zoo.data.buffers import Buffers
from zoo.data.cache import Prepared
from zoo.data.decode import to_part, to_rgb
from zoo.data.faults import Faults
from zoo.data.order import occurrences, shuffled
from zoo.errors import DatasetInvalid, ImageUnreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from zoo.contracts.plugins import Image, Split
    from zoo.contracts.preprocess import Preprocess
    from zoo.data.buffers import Allocate
    from zoo.data.order import Order

Batch = tuple[np.ndarray, np.ndarray]
"""uint8 [n, height, width, 3], and the labels."""
MOST_WORKERS = 16
FRESH: dict[str, Any] = {"bit_generator": "Philox", "buffer": np.zeros(4, np.uint64), "buffer_pos": 4}
FRESH |= {"has_uint32": 0, "uinteger": 0}
"""The rest of a Philox generator's state (Salmon et al., 2011) when nothing was drawn from it yet."""
Step = TypeVar("Step")


class Augmentation(Protocol):
    """What an augmentation plugin makes: an albumentations.Compose."""

    def __call__(self, *, image: np.ndarray) -> dict[str, Any]: ...
    def set_random_state(self, random_generator: np.random.Generator, py_random: random.Random) -> None: ...


def worker_count(asked: int, processes: int = 1) -> int:
    """Return how many threads prepare batches in one of some processes on this machine.

    -1 chooses: one fewer than the processors that it may use for itself, at most 16.
    """
    if asked >= 0:
        return asked
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2
    return max(1, min(MOST_WORKERS, processors // processes - 1))


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Which rows of every batch one of several processes prepares."""

    rank: int = 0
    of: int = 1

    def rows(self, images: int) -> np.ndarray:
        """Return the places of ours in a batch of so many, int64, ascending.

        Where they can be shared evenly that way, a row and its mirror image, counted from the end, stay together:
        mixup and cutmix blend such pairs, so that the pairs are the same for any number of processes.
        """
        places = np.arange(images)
        pairs = images % (2 * self.of) == 0
        ours: np.ndarray = (np.minimum(places, places[::-1]) if pairs else places) % self.of == self.rank
        mine: np.ndarray = places[ours]
        return mine


@dataclass(frozen=True, kw_only=True)
class TrainLoader:
    """Shuffled, augmented batches. Every sample's randomness comes from (seed, epoch, index), never from a worker.

    A batch's memory is used again once nobody refers to it. An image that cannot be read gives its place to the next
    one that can, and is noted in `faults`.
    """

    split: Split
    augmentation: Callable[[], Augmentation]
    """Makes one; each thread gets its own, since their random state is not shared safely."""
    size: tuple[int, int]
    batch_size: int
    """Images a step, of all processes together."""
    seed: int
    workers: int = 0
    order: Order = shuffled
    shard: Shard = field(default_factory=Shard)
    allocate: Allocate | None = None
    faults: Faults = field(default_factory=Faults)

    def __len__(self) -> int:
        return max(1, len(self.split) // self.batch_size)

    @functools.cached_property
    def _buffers(self) -> Buffers:
        return Buffers((-(-self.batch_size // self.shard.of), *self.size, 3), self.allocate)

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from step `start` on; a last, smaller batch is left out."""
        order = self.order(self.seed, epoch, self.split.labels)
        # An image may be drawn again within an epoch; each time it must look different.
        samples = np.stack([np.full(len(order), epoch), order, occurrences(order)], axis=1)
        rows = range(start * self.batch_size, len(self) * self.batch_size, self.batch_size)
        # The only batch may be smaller than others would be.
        steps = [part[self.shard.rows(len(part))] for part in (samples[row : row + self.batch_size] for row in rows)]
        own = threading.local()

        def make(step: np.ndarray) -> Batch:
            if not hasattr(own, "sampler"):
                own.sampler = _Sampler(self)
            return self._batch(own.sampler, step.tolist(), self._buffers.take())

        yield from in_order(make, steps, self.workers)

    def _batch(self, sampler: _Sampler, samples: list[list[int]], pixels: np.ndarray) -> Batch:
        used = []
        for out, sample in zip(pixels, samples, strict=False):
            image, index = sampler.draw(out, *sample)
            # Not even a view of it will do: it may be mirrored.
            if image is not out:
                out[:] = image
            used.append(index)
        return pixels[: len(used)], self.split.labels[used]


class _Sampler:
    """One thread's way from a place in the order to an augmented image."""

    def __init__(self, loader: TrainLoader) -> None:
        self.loader = loader
        self.augmentation = loader.augmentation()
        self.bits = np.random.Philox(key=0)
        self.numbers, self.random = np.random.Generator(self.bits), random.Random()
        # Asked once: a look at a protocol's methods costs as much as drawing the crop.
        self.crops = self.augmentation if isinstance(self.augmentation, CropsFirst) else None

    def draw(self, out: np.ndarray, epoch: int, index: int, repeat: int) -> tuple[np.ndarray, int]:
        """Return the augmented image, perhaps in `out`, and the index of the one that was used."""
        images, faults = self.loader.split.images, self.loader.faults
        for used in itertools.chain(range(index, len(images)), range(index)):
            self._seed(epoch, index, repeat)
            try:
                return self._augmented(images[used], out), used
            except ImageUnreadable as exc:
                faults.note(images, used, exc)
        raise DatasetInvalid("no training image can be read any more; see whether its disk is still there")

    def _seed(self, epoch: int, index: int, repeat: int) -> None:
        """Begin the sample's own stream of numbers: a counter-based generator needs no hashing for that."""
        counter = np.array([0, repeat, index, epoch], np.uint64)
        key = np.array([self.loader.seed, 0], np.uint64)
        state: Any = {**FRESH, "state": {"counter": counter, "key": key}}
        self.bits.state = state
        # One generator for all: `set_random_seed` would give every transform the same numbers, and so tie them.
        self.random.seed(int(self.numbers.integers(2**63)))
        self.augmentation.set_random_state(self.numbers, self.random)

    def _augmented(self, image: Image, out: np.ndarray) -> np.ndarray:
        done: Mapping[str, Any]
        if self.crops:
            part = to_part(image, self.crops.choose_crop, self.loader.size)
            done = self.crops.finish(image=part, out=out)
        else:
            done = self.augmentation(image=to_rgb(image))
        pixels: np.ndarray = done["image"]
        return pixels


def evaluation_batches(
    split: Split,
    preprocess: Preprocess | None,
    *,
    batch_size: int = 64,
    workers: int = 0,
    faults: Faults | None = None,
    shard: Shard | None = None,
) -> Iterator[Batch]:
    """Yield a whole split in order, each image prepared exactly as on the device.

    Args:
        split: Its images may be `Prepared` already.
        preprocess: What the device does; None gives images as they were decoded, uint8 [1, H, W, 3], one a batch.
        batch_size: Images a batch, at most.
        workers: Threads.
        faults: Takes note of images that cannot be read, which are then left out.
        shard: Which of several processes this is; each gets its share, in as many batches as any other, so that the
            last ones may be empty.

    Raises:
        ImageUnreadable: an image cannot be read, and nobody takes note.
    """
    size, batch_size = (preprocess.size, batch_size) if preprocess else ((0, 0), 1)

    def make(indices: np.ndarray) -> Batch:
        prepared = []
        for index in indices.tolist():
            try:
                image = split.images[index]
                if not isinstance(split.images, Prepared):
                    image = preprocess.prepare(to_rgb(image)) if preprocess else to_rgb(image)
                prepared.append(image)
            except ImageUnreadable as exc:
                if faults is None:
                    raise
                faults.note(split.images, index, exc)
                prepared.append(None)
        good = [row for row, image in enumerate(prepared) if image is not None]
        batch = np.stack([prepared[row] for row in good]) if good else np.empty((0, *size, 3), np.uint8)
        return batch, split.labels[indices[good]]

    places, shard = np.arange(len(split)), shard or Shard()
    whole = batch_size * shard.of
    batches = (places[i : i + whole] for i in range(0, len(split), whole))
    yield from in_order(make, [batch[shard.rows(len(batch))] for batch in batches], workers)


def in_order(make: Callable[[Step], Batch], steps: Sequence[Step], workers: int) -> Iterator[Batch]:
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
