"""A request's body -> the pictures in it, within the limits; nothing is decoded here."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
from typing import TYPE_CHECKING, Any

from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from zoo.deploy.serve.batching import Picture
from zoo.deploy.serve.refused import Refused

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from starlette.requests import Request

    from zoo.deploy.serve.settings import Settings

TAKEN = "image/*, application/octet-stream, multipart/form-data or application/json"


class Reader:
    """Reads bodies; knows how much all of those together hold that have no answer yet."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._held = settings, 0

    @contextlib.asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[list[Picture]]:
        """Read a request; its bytes count as held until the block ends.

        Raises:
            Refused: too large (413), of no known kind (415), not as that kind is written (400), or no room (503).
            ClientDisconnect: the client has gone.
        """
        kind = _kind(request)
        self._refuse_announced(request)
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                self._held += len(chunk)
                self._refuse_large(len(body))
            pictures = await _pictures(kind, request, bytes(body), self._settings.max_images)
            if len(pictures) > self._settings.max_images:
                raise Refused(413, f"{len(pictures)} images at once, over the limit of {self._settings.max_images}")
            yield pictures
        finally:
            self._held -= len(body)

    def _refuse_announced(self, request: Request) -> None:
        announced = request.headers.get("content-length")
        if announced and announced.isdigit():
            self._refuse_large(int(announced))

    def _refuse_large(self, size: int) -> None:
        most = self._settings.max_body_bytes
        if size > most:
            raise Refused(413, f"the body is larger than {most / 2**20:.3g} MiB; send a smaller image, or fewer")
        if self._held > self._settings.max_held_bytes:
            raise Refused(503, "too many large requests at once; come again")


def _kind(request: Request) -> str:
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(415, "a body with a Content-Encoding is not read; send it as it is")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ("application/octet-stream", "multipart/form-data", "application/json") or kind.startswith("image/"):
        return kind
    raise Refused(415, f"Content-Type is {kind or 'missing'}; send {TAKEN}")


async def _pictures(kind: str, request: Request, body: bytes, most: int) -> list[Picture]:
    if kind == "multipart/form-data":
        return await _from_form(request, body, most)
    if kind == "application/json":
        # Megabytes of base64 would hold up everybody else.
        return await asyncio.to_thread(_from_json, body) if len(body) > 50_000 else _from_json(body)
    return [Picture("", body)]


async def _from_form(request: Request, body: bytes, most: int) -> list[Picture]:
    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(request.headers, whole(), max_files=most + 1, max_fields=most)
    # It has been read within the limit; a file on the disk would be no better place for it.
    parser.spool_max_size = len(body) + 1
    try:
        form = await parser.parse()
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        pictures = [Picture(file.filename or "", await file.read()) for file in files]
    except (MultiPartException, FormParserError, KeyError, UnicodeDecodeError) as exc:
        if "Too many files" in str(exc):
            raise Refused(413, f"more images at once than the limit of {most}") from exc
        raise Refused(400, f"the form cannot be read: {exc}") from exc
    if not pictures:
        raise Refused(400, "the form holds no file; send at least one")
    return pictures


def _from_json(body: bytes) -> list[Picture]:
    wanted = 'JSON must be {"image": "<base64>"} or {"images": ["<base64>", ...]}'
    try:
        values: Any = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise Refused(400, f"the body is no JSON ({type(exc).__name__}); {wanted}") from exc
    images = values.get("images", [values.get("image")]) if isinstance(values, dict) else None
    if not isinstance(images, list) or not images or not all(isinstance(image, str) for image in images):
        raise Refused(400, wanted)
    try:
        return [Picture("", base64.b64decode(_bare(image), validate=True)) for image in images]
    except (binascii.Error, ValueError) as exc:
        raise Refused(400, f"an image is no base64 ({exc})") from exc


def _bare(image: str) -> str:
    """Return the base64 of a data: address as of plain base64."""
    return image.partition(",")[2] if image.startswith("data:") else image
