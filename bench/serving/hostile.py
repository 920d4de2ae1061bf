"""Requests that no server should be hurt by: bombs, half pictures, bodies that come too slowly or never."""

from __future__ import annotations

import base64
import random
import struct
import zlib

from bench.serving.client import picture, post


def png(width: int, height: int, rows: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def hostile() -> dict[str, tuple[bytes, tuple[int, ...]]]:
    """Return name -> a request and the statuses that it may get."""
    whole = picture(0, (96, 96))
    noise = random.Random(0).randbytes(20_000)
    bomb = png(6000, 5000, bytes(6000 * 3 + 1) * 5000)
    form = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + whole[:200]
    chunked = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
    return {
        "bomb of 900 megapixels": (post(png(30_000, 30_000), "image/png"), (422,)),
        "bomb of 30 megapixels": (post(bomb, "image/png"), (422,)),
        "truncated": (post(whole[: len(whole) // 2]), (422,)),
        "noise": (post(noise), (422,)),
        "empty": (post(b""), (422,)),
        "wrong type": (post(b"<html></html>", "text/html"), (415,)),
        "broken JSON": (post(b'{"image": "' + b"[" * 9000, "application/json"), (400,)),
        "nested JSON": (post(b"[" * 90_000, "application/json"), (400,)),
        "no base64": (post(b'{"image": "%%%"}', "application/json"), (400,)),
        "truncated in JSON": (
            post(b'{"image": "' + base64.b64encode(whole[:700]) + b'"}', "application/json"),
            (422,),
        ),
        "broken form": (post(form, "multipart/form-data; boundary=x"), (400, 422)),
        "announced as huge": (post(b"", length=10**12), (413,)),
        "huge": (post(bytes(20 * 2**20)), (413,)),
        "huge in chunks": (chunked + b"%x\r\n" % (20 * 2**20) + bytes(20 * 2**20), (413,)),
        "no HTTP": (b"\x16\x03\x01 hello\r\n\r\n", (400,)),
        "long head": (b"GET / HTTP/1.1\r\n" + b"x: " + b"y" * 100_000, (431,)),
        "other address": (b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", (404,)),
    }


def slow() -> dict[str, tuple[bytes, bytes]]:
    """Return name -> what is sent at once, and what is dripped then."""
    return {
        "slow head": (b"POST /v1/predict HTTP/1.1\r\n", b"x"),
        "slow body": (post(b"", length=5000), b"\xff"),
        "nothing at all": (b"", b""),
        "empty lines after an answer": (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n"),
        "body after the answer": (b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n", b"z"),
    }
