"""One connection that asks and waits, and requests whose answers are known."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from zoo.runtime.model import Model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TOLERANCE = 1e-3


class Lost(Exception):
    """A connection ended before the whole answer was there."""


class Connection(asyncio.Protocol):
    """One connection that asks and waits, as cheaply as Python can."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._held, self._answer = b"", None
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self.open = True

    _answer: asyncio.Future[tuple[int, bytes]] | None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._held += data
        end = self._held.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._held[:end].lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(self._held) < end + 4 + length:
            return
        body, self._held = self._held[end + 4 : end + 4 + length], self._held[end + 4 + length :]
        self.open = self.open and b"connection: close" not in head
        if self._answer and not self._answer.done():
            self._answer.set_result((int(head[9:12]), body))

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        if self._answer and not self._answer.done():
            self._answer.set_exception(Lost(str(exc)))
        if not self.ended.done():
            self.ended.set_result(None)

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        self._answer = self._loop.create_future()
        self.transport.write(request)
        return await self._answer


async def connect(port: int) -> Connection:
    _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
    return connection


def post(body: bytes, kind: str = "image/jpeg", top: int = 5, length: int | None = None) -> bytes:
    head = f"POST /v1/predict?top={top} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n"
    return f"{head}Content-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body


@dataclass
class Good:
    """A request and what must come back."""

    request: bytes
    wanted: np.ndarray
    """Probabilities, in the order of the classes."""


def goods(artifact: Path, count: int) -> list[Good]:
    """Draw pictures that all have answers of their own."""
    model = Model(artifact)
    found: list[Good] = []
    for seed in range(100 * count):
        data = picture(seed, model.manifest.view.size)
        wanted = probabilities(model.predict(data, top=1000)[0].to_json(), model.classes)
        if all(np.abs(wanted - other.wanted).max() > 4 * TOLERANCE for other in found):
            found.append(Good(post(data, top=len(model.classes)), wanted))
        if len(found) == count:
            return found
    sys.exit(f"{artifact} answers too much alike to tell mixed-up answers; name a model that is trained")


def picture(seed: int, size: tuple[int, int]) -> bytes:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (*rng.integers(2, 12, 2), 3), np.uint8)
    image = Image.fromarray(coarse).resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return encoded(image, "JPEG")


def encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def probabilities(answer: dict[str, Any], classes: Sequence[str]) -> np.ndarray:
    told = {one["class"]: one["probability"] for one in answer["top"]}
    return np.array([told[name] for name in classes])


def right(good: Good, body: bytes, classes: Sequence[str]) -> bool:
    found = probabilities(json.loads(body)["predictions"][0], classes)
    return bool(np.abs(found - good.wanted).max() <= TOLERANCE)
