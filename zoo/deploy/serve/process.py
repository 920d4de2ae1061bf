"""One process that answers: it loads the model, serves, drains; the supervisor runs it by `python -m`."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import logging
import os
import socket
import struct
import sys
import time
from typing import Any

from PIL import Image
from uvicorn import Config, Server

from zoo.deploy.serve.app import Application
from zoo.deploy.serve.protocol import LimitedProtocol
from zoo.deploy.serve.refused import Refused
from zoo.deploy.serve.settings import LIFELINE, SOCKET, Settings
from zoo.deploy.serve.worker import Worker

BACKLOG = 2048


SO_ATTACH_FILTER = 26


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
