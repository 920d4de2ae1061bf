"""Connections that break limits, byte by byte on a socket: each gets a reason, or an end, and nobody else notices."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from .conftest import picture

if TYPE_CHECKING:
    import socket

    import httpx

    from .conftest import Served

RED = picture(250, 40, 10)
ASK = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n" % len(RED) + RED
CHUNKED = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


def read_all(connection: socket.socket) -> bytes:
    """Read until the server ends the connection."""
    found = b""
    while chunk := connection.recv(65536):
        found += chunk
    return found


def read_answer(connection: socket.socket) -> tuple[int, dict[str, object]]:
    """Read one answer."""
    found = b""
    while b"\r\n\r\n" not in found:
        found += connection.recv(65536)
    head, _, body = found.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)
    return int(head.split()[1]), json.loads(body)


def drip(connection: socket.socket, byte: bytes) -> bytes:
    """Send a byte ten times a second until the server ends the connection; return what it said."""
    connection.settimeout(0.1)
    found, until = b"", time.monotonic() + 15
    while time.monotonic() < until:
        try:
            chunk = connection.recv(65536)
            if not chunk:
                return found
            found += chunk
        except TimeoutError:
            try:
                connection.sendall(byte)
            except OSError:
                return found
        except ConnectionError:
            return found
    raise AssertionError("still connected after 15 s")


@pytest.mark.parametrize("before", [b"", HEALTH, ASK], ids=["first", "after an answer", "after a picture"])
@pytest.mark.parametrize(
    ("at_once", "dripped", "said"),
    [
        (b"GET / HTTP/1.1\r\nx", b"x", b"408"),
        (ASK[:-20], b"\0", b"408"),
        (CHUNKED, b"1\r\nx\r\n", b"408"),
        (b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n", b"x", b"404"),
        (b"\r\n", b"\r\n", b"408"),
    ],
    ids=["head", "body", "chunks", "body of a refused request", "empty lines"],
)  # fmt: skip
def test_a_slow_client_is_cut_off(server: Served, before: bytes, at_once: bytes, dripped: bytes, said: bytes) -> None:
    with server.connect() as connection:
        if before:
            connection.sendall(before)
            assert read_answer(connection)[0] == 200
        connection.sendall(at_once)
        found = drip(connection, dripped)
    assert b" " + said + b" " in found.partition(b"\r\n")[0]
    assert b'{"error"' in found


def test_a_silent_connection_is_cut_off(server: Served) -> None:
    with server.connect() as connection:
        assert b" 408 " in read_all(connection)


def test_a_steady_upload_may_take_longer(server: Served, client: httpx.Client) -> None:
    # 0.8 s and one more for each 50,000 bytes.
    data = picture(1, 2, 3) + bytes(150_000)
    with server.connect() as connection:
        connection.sendall(ASK.partition(b"Content-Length")[0] + b"Content-Length: %d\r\n\r\n" % len(data))
        for start in range(0, len(data), 15_000):
            connection.sendall(data[start : start + 15_000])
            time.sleep(0.12)
        assert read_answer(connection)[0] == 200


def test_a_long_head_is_refused(server: Served) -> None:
    with server.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nx: " + b"y" * 200_000)
        assert b" 431 " in read_all(connection)


def test_who_sends_too_much_can_read_why(server: Served) -> None:
    """Such clients send all before they read; a reset would throw the answer away."""
    head = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 390000\r\n\r\n"
    for _ in range(10):
        with server.connect() as connection:
            connection.sendall(head)
            for _ in range(39):
                connection.sendall(bytes(10_000))
                time.sleep(0.002)
            assert b" 413 " in read_all(connection)


def test_who_sends_without_end_is_cut_off(server: Served) -> None:
    head = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 999999999\r\n\r\n"
    with server.connect() as connection:
        connection.sendall(head)
        with pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):
            connection.sendall(bytes(300_000_000))


def test_what_is_no_http_gets_json(server: Served) -> None:
    with server.connect() as connection:
        connection.sendall(b"\x16\x03\x01\x00 hello\r\n\r\n")
        answer = read_all(connection)
    assert b" 400 " in answer
    assert b'{"error"' in answer


def test_requests_in_one_go_are_answered_in_order(server: Served) -> None:
    wrong = ASK.replace(b"image/png", b"text/html")
    with server.connect() as connection:
        connection.sendall(HEALTH + ASK + wrong + HEALTH)
        statuses = []
        found = b""
        while found.count(b"HTTP/1.1 ") < 4 or not found.endswith(b"}"):
            found += connection.recv(65536)
        statuses = [int(part[:3]) for part in found.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [200, 200, 415, 200]


def test_clients_that_leave_do_no_harm(server: Served, client: httpx.Client) -> None:
    for cut in (len(ASK), len(ASK) - 10, 30, 0):
        for _ in range(20):
            with server.connect() as connection:
                connection.sendall(ASK[:cut])
    assert client.post("/v1/predict", content=RED, headers={"content-type": "image/png"}).status_code == 200
    until = time.monotonic() + 5
    while "zoo_in_hand_images 0.0" not in client.get("/metrics").text:
        assert time.monotonic() < until, "images of clients that have gone are still in hand"
        time.sleep(0.05)
