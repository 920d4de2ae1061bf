"""What a serving process has in hand: the model, its batches, limits and counters; it knows no application."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.deploy.serve.batching import Batcher
from zoo.deploy.serve.journal import Journal
from zoo.deploy.serve.metrics import Metrics
from zoo.deploy.serve.protocol import House
from zoo.deploy.serve.reading import Reader
from zoo.deploy.serve.refused import Refused
from zoo.deploy.serve.subject import Subject, load
from zoo.deploy.serve.swap import Current
from zoo.errors import ZooError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from zoo.deploy.serve.settings import Settings


LOOK_SECONDS = 1.0
STUCK_SECONDS = 60.0
"""That a batch may be in the network before the process is given up."""
log = logging.getLogger("zoo.serve")


class Worker:
    """What a process has in hand: model, batches, limits, counters."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.metrics = settings, Metrics()
        self.house = House(settings, self.metrics)
        self.reader = Reader(settings)
        self.failed: ZooError | None = None
        """Why the model could not be loaded."""
        self._batcher: Batcher | None = None
        self._current: Current | None = None
        self._loaded = asyncio.Event()

    def subject(self) -> Subject:
        """Return what answers now."""
        assert self._current
        return self._current.subject

    def state(self) -> str:
        """Return "loading", "ready" or "draining"."""
        if self.house.draining:
            return "draining"
        return "ready" if self._batcher else "loading"

    async def ready(self) -> Batcher:
        """Wait for the model.

        Raises:
            Refused: it did not come.
        """
        if not self._loaded.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._loaded.wait(), self.settings.answer_seconds)
        if not self._batcher:
            raise Refused(503, "the model is not loaded; come again")
        return self._batcher

    @contextlib.asynccontextmanager
    async def living(self) -> AsyncIterator[None]:
        """Do what goes on beside the requests, for as long as the block lasts."""
        journal = Journal(Path(self.settings.log), self.metrics) if self.settings.log else None
        going = asyncio.create_task(self._go_on(journal))
        try:
            yield
        finally:
            going.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await going
            if self._batcher:
                await asyncio.to_thread(self._batcher.close)
            if journal:
                await asyncio.to_thread(journal.close)

    async def _go_on(self, journal: Journal | None) -> None:
        try:
            self._current = await asyncio.to_thread(Current, Path(self.settings.path), self._load, self._told)
        except ZooError as exc:
            self.failed = exc
            self._loaded.set()
            return
        self._batcher = Batcher(self.settings, self.subject, self.metrics, journal)
        # What is there now stays: a collection need not look at it again, which would take tens of milliseconds.
        gc.collect()
        gc.freeze()
        self._loaded.set()
        self._show()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await asyncio.to_thread(self._current.look)
            self._give_up_if_stuck(self._batcher)

    def _load(self, path: Path) -> Subject:
        registry = Path(self.settings.registry) if self.settings.registry else None
        return load(path, threads=self.settings.threads, provider=self.settings.provider, registry=registry)

    def _told(self, outcome: str, text: str) -> None:
        self.metrics.swaps.labels(outcome).inc()
        log.warning(text)
        self._show(clear=outcome == "swapped")

    def _show(self, *, clear: bool = False) -> None:
        if clear:
            self.metrics.model.clear()
        self.metrics.model.labels(self.subject().sha256).set(1)
        self.metrics.ready.set(not self.house.draining)

    def _give_up_if_stuck(self, batcher: Batcher) -> None:
        since = batcher.busy_since
        if since is not None and time.monotonic() - since > STUCK_SECONDS:
            log.error(f"the network has not answered for {STUCK_SECONDS:g} s; this process ends, another takes over")
            os._exit(1)  # a thread that hangs cannot be ended
