"""One process that answers: it loads the model, serves, drains; the supervisor runs it by `python -m`."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import json
import logging
import os
import socket
import struct
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from uvicorn import Config, Server

from zoo.errors import ZooError
from zoo.serve.app import Application
from zoo.serve.batching import Batcher
from zoo.serve.journal import Journal
from zoo.serve.metrics import Metrics
from zoo.serve.protocol import House, LimitedProtocol
from zoo.serve.reading import Reader
from zoo.serve.refused import Refused
from zoo.serve.settings import LIFELINE, SOCKET, Settings
from zoo.serve.subject import Subject, load
from zoo.serve.swap import Current

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LOOK_SECONDS = 1.0
STUCK_SECONDS = 60.0
"""That a batch may be in the network before the process is given up."""
BACKLOG = 2048
SO_ATTACH_FILTER = 26
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
        return load(path, threads=self.settings.threads, registry=registry)

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


class DrainingServer(Server):
    """uvicorn's own, which ends without losing a request that a client has sent."""

    def __init__(self, config: Config, worker: Worker, listening: socket.socket, lifeline: socket.socket) -> None:
        super().__init__(config)
        self._worker, self._listening, self._lifeline = worker, listening, lifeline

    def handle_exit(self, sig: int, frame: Any) -> None:
        # Not kept, as uvicorn would raise it again at the end: a drained process ends with code 0.
        self.force_exit, self.should_exit = self.should_exit, True

    async def main_loop(self) -> None:
        asyncio.get_running_loop().add_reader(self._lifeline.fileno(), self._left_alone)
        announced = asyncio.create_task(self._announce())
        await super().main_loop()
        announced.cancel()
        self._worker.house.draining = True
        self._worker.metrics.ready.set(0)
        for connection in list(self.server_state.connections):
            if isinstance(connection, LimitedProtocol):
                connection.drain()
        if not self._worker.failed:
            await self._wait(self._worker.settings.drain_seconds)
        seal(self._listening)
        # What was connected before that is taken in; with many processes by any of them.
        await self._wait(0.2)

    async def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self.force_exit:
            await self.on_tick(0)
            await asyncio.sleep(0.05)

    async def _announce(self) -> None:
        try:
            await self._worker.ready()
        except Refused:
            self.should_exit = True
            return
        self._lifeline.sendall(json.dumps({"model": self._worker.subject().sha256}).encode() + b"\n")

    def _left_alone(self) -> None:
        """End when the supervisor has gone without a word: nobody else could end this process."""
        asyncio.get_running_loop().remove_reader(self._lifeline.fileno())
        self.should_exit = True


def seal(listening: socket.socket) -> None:
    """Let a listening socket take no new connection, while those that are made already can still be accepted.

    Closing it would reset them. Linux only: a packet filter that drops all; those who try meanwhile try again, and find
    another server or a closed port. Elsewhere the gap stays open for the milliseconds until the socket is closed.
    """
    if sys.platform == "linux":
        drop = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
        with contextlib.suppress(OSError):
            listening.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(drop)))


def main() -> int:
    """Serve as the environment says; return the exit code."""
    logging.basicConfig(format="zoo: %(message)s", level=logging.WARNING)
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    settings = Settings.from_environment()
    # Else the first image of each format would wait for Pillow to load what reads it.
    Image.init()
    listening = socket.socket(fileno=int(os.environ.pop(SOCKET)))
    lifeline = socket.socket(fileno=int(os.environ.pop(LIFELINE)))
    worker = Worker(settings)
    config = Config(
        Application(worker),
        http=LimitedProtocol,
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=int(settings.answer_seconds + settings.head_seconds + settings.body_seconds) + 1,
    )
    DrainingServer(config, worker, listening, lifeline).run(sockets=[listening])
    if worker.failed:
        print(f"zoo: {worker.failed}", file=sys.stderr)
        return worker.failed.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
