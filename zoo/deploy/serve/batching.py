"""Images of many requests, decoded side by side and sent through the network together, each answer to its own request.

An image waits only for others that are in the house already and still being decoded, and for those `max_wait_ms` at
most; alone it does not wait. What comes while the network is busy is the next batch.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import queue
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.runtime.errors import BundleError
from zoo.runtime.pixels import PixelError, decode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from zoo.deploy.serve.journal import Journal
    from zoo.deploy.serve.metrics import Metrics
    from zoo.deploy.serve.settings import Settings
    from zoo.deploy.serve.subject import Subject
    from zoo.runtime.model import Answer, Model


class Full(Exception):
    """As many images as a process may have in hand are there already."""


@dataclass(frozen=True)
class Picture:
    """An encoded image of a request."""

    name: str
    data: bytes


@dataclass(eq=False, slots=True)
class Job:
    """One image on its way; what it was prepared for is also what answers it."""

    picture: Picture
    top: int
    future: asyncio.Future[tuple[Answer, Subject]]
    subject: Subject | None = None
    pixels: np.ndarray | None = None
    ready: float = 0.0


class Batcher:
    """Threads that decode, and one that runs the network.

    Args:
        settings: Its limits.
        current: Returns the subject that answers from now on.
        metrics: Is told of every batch.
        journal: Gets every answer; or None.
    """

    def __init__(
        self, settings: Settings, current: Callable[[], Subject], metrics: Metrics, journal: Journal | None = None
    ) -> None:
        self._settings, self._current, self._metrics, self._journal = settings, current, metrics, journal
        self._loop = asyncio.get_running_loop()
        self._encoded: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._decoded: collections.deque[Job] = collections.deque()
        self._decoding = self._held = self.in_hand = 0
        self._closing = False
        self.busy_since: float | None = None
        """When the network got the batch that it has; None while it has none."""
        targets = [self._decode_all] * settings.decoders + [self._answer_all]
        self._threads = [threading.Thread(target=target, daemon=True) for target in targets]
        for thread in self._threads:
            thread.start()

    async def answer(
        self, pictures: Sequence[Picture], *, top: int, gone: set[asyncio.Future[Any]] | None = None
    ) -> tuple[list[Answer], str]:
        """Return the answers in the order of the pictures, and the SHA-256 of the model that gave the last one.

        Args:
            pictures: One request's.
            top: How many classes to tell.
            gone: Futures in here are cancelled by whoever sees that the client has gone.

        Raises:
            Full: there is no room.
            PixelError: one cannot be read; the text names it where there are several.
            BundleError: the network answered what is not a number.
        """
        if self.in_hand + len(pictures) > self._settings.queue:
            raise Full
        jobs = [Job(picture, top, self._loop.create_future()) for picture in pictures]
        everything = asyncio.gather(*(job.future for job in jobs))
        self._take(jobs)
        if gone is not None:
            gone.add(everything)
        try:
            async with asyncio.timeout(self._settings.answer_seconds):
                found = await everything
        except PixelError as exc:
            raise PixelError(_named(exc, jobs)) from exc
        finally:
            # Of several, the others are of no use once one has failed.
            for job in jobs:
                job.future.cancel()
            if gone is not None:
                gone.discard(everything)
        return [answer for answer, _ in found], found[-1][1].sha256

    def close(self) -> None:
        """End the threads once nothing waits."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for _ in self._threads:
            self._encoded.put(None)
        for thread in self._threads:
            thread.join()

    def _take(self, jobs: Sequence[Job]) -> None:
        self.in_hand += len(jobs)
        self._metrics.in_hand.set(self.in_hand)
        with self._changed:
            self._decoding += len(jobs)
        for job in jobs:
            self._encoded.put(job)

    def _decode_all(self) -> None:
        while (job := self._encoded.get()) is not None:
            with self._changed:
                while self._held > self._settings.max_held_bytes and not self._closing:
                    self._changed.wait()
            failed: Exception | None = None
            if not job.future.cancelled():
                try:
                    self._decode(job)
                except Exception as exc:
                    failed = exc
            with self._changed:
                self._decoding -= 1
                if job.pixels is not None:
                    self._decoded.append(job)
                    self._held += job.pixels.nbytes
                self._changed.notify_all()
            if job.pixels is None:
                self._tell_soon([(job, failed)])

    def _decode(self, job: Job) -> None:
        job.subject = self._current()
        job.pixels = job.subject.model.pixels(decode(job.picture.data, max_pixels=self._settings.max_pixels))
        job.ready = time.monotonic()

    def _answer_all(self) -> None:
        while batch := self._next_batch():
            self._answer(batch)

    def _next_batch(self) -> list[Job]:
        """Wait for images, and a moment for more of them; empty at the end."""
        with self._changed:
            while not self._decoded:
                if self._closing:
                    return []
                self._changed.wait()
            until = self._decoded[0].ready + self._settings.max_wait_ms / 1e3
            while self._decoding and len(self._decoded) < self._settings.max_batch:
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            batch = [self._decoded.popleft()]
            while self._decoded and len(batch) < self._settings.max_batch and self._same(batch[0], self._decoded[0]):
                batch.append(self._decoded.popleft())
            self._held -= sum(job.pixels.nbytes for job in batch if job.pixels is not None)
            self._changed.notify_all()
        return batch

    @staticmethod
    def _same(one: Job, other: Job) -> bool:
        """Whether two images were prepared for one and the same model."""
        return one.subject is other.subject

    def _answer(self, batch: list[Job]) -> None:
        wanted = [job for job in batch if not job.future.cancelled()]
        outcomes: list[tuple[Job, Answer | Exception | None]] = [(job, None) for job in batch if job not in wanted]
        if wanted and wanted[0].subject is not None:
            subject = wanted[0].subject
            self.busy_since = begin = time.monotonic()
            told = ask(subject.model, [job.pixels for job in wanted if job.pixels is not None])
            seconds = time.monotonic() - begin
            self.busy_since = None
            self._metrics.batches.observe(len(wanted))
            self._metrics.network.observe(seconds)
            for job, one in zip(wanted, told, strict=True):
                outcomes.append((job, one if isinstance(one, Exception) else self._worded(job, one, seconds)))
        self._tell_soon(outcomes)

    def _worded(self, job: Job, told: tuple[np.ndarray, bool | None], seconds: float) -> Answer:
        assert job.subject is not None
        answer = job.subject.model.answer(job.picture.name, *told, top=job.top)
        if self._journal and job.pixels is not None:
            self._journal.add(job.subject.sha256, answer, job.pixels, 1e3 * seconds)
        return answer

    def _tell_soon(self, outcomes: list[tuple[Job, Answer | Exception | None]]) -> None:
        """Hand results over to the event loop: once for all, as each time wakes it up."""
        with contextlib.suppress(RuntimeError):  # it has ended: nobody waits
            self._loop.call_soon_threadsafe(self._tell, outcomes)

    def _tell(self, outcomes: list[tuple[Job, Answer | Exception | None]]) -> None:
        self.in_hand -= len(outcomes)
        self._metrics.in_hand.set(self.in_hand)
        for job, outcome in outcomes:
            if job.future.done():
                self._metrics.gone.inc()
            elif isinstance(outcome, Exception):
                job.future.set_exception(outcome)
            elif outcome is not None and job.subject is not None:
                job.future.set_result((outcome, job.subject))


def ask(model: Model, pixels: Sequence[np.ndarray]) -> list[tuple[np.ndarray, bool | None] | Exception]:
    """Return each image's probabilities, float32 [C], and whether it is unknown; or why there is no answer.

    One image that makes the network fail takes no other down: they are asked again, one by one.
    """
    try:
        probabilities, unknown = model.ask(pixels)
    except Exception as exc:
        if len(pixels) > 1:
            return [one for image in pixels for one in ask(model, [image])]
        if not isinstance(exc, BundleError):
            logging.getLogger("zoo.serve").error("the network failed: %s: %s", type(exc).__name__, exc)
        return [exc]
    return list(zip(probabilities, unknown, strict=True))


def _named(exc: PixelError, jobs: Sequence[Job]) -> str:
    """Say which image it is."""
    failed = next(i for i, job in enumerate(jobs) if job.future.done() and not job.future.cancelled()
                  and job.future.exception() is exc)  # fmt: skip
    name = jobs[failed].picture.name
    which = "the image" if len(jobs) == 1 else f"image {failed + 1}"
    return f"{which} {name!r} {exc}" if name else f"{which} {exc}"
