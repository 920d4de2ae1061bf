"""Images as they come: folders that fill, streams of pictures, cameras on the network, ffmpeg behind a device."""

from __future__ import annotations

import http.server
import io
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from zoo.runtime import frames
from zoo.runtime.errors import BundleError
from zoo.runtime.frames import camera, is_camera, new_files, newest, pictures

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from zoo.records.artifact import Artifact


def jpeg(seed: int, *, thumbnail: bool = False) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), np.uint8)
    out = io.BytesIO()
    inside = {"exif": b"Exif\0\0" + jpeg(seed + 1000)} if thumbnail else {}
    Image.fromarray(pixels).save(out, "JPEG", **inside)
    return out.getvalue()


FRAMES = [jpeg(seed, thumbnail=seed == 1) for seed in range(3)]


class Drips(io.BytesIO):
    """A stream that gives a few bytes at a time, as a network does."""

    def read1(self, size: int | None = -1, /) -> bytes:
        return self.read(7)


@pytest.mark.parametrize("between", [b"", b"\r\n--frame\r\nContent-Type: image/jpeg\r\n\r\n"])
@pytest.mark.parametrize("stream", [io.BytesIO, Drips])
def test_a_stream_is_cut_into_its_pictures(stream: type[io.BytesIO], between: bytes) -> None:
    assert list(pictures(stream(between + between.join(FRAMES)))) == FRAMES


def test_a_picture_without_an_end_is_none() -> None:
    assert list(pictures(io.BytesIO(FRAMES[0] + FRAMES[1][:-2]))) == FRAMES[:1]


def test_a_stream_of_something_else_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MOST_BYTES", 10_000)
    with pytest.raises(BundleError, match="holds no JPEG pictures"):
        list(pictures(io.BytesIO(bytes(100_000))))


def test_the_newest_frame_is_taken_and_the_last_one_too() -> None:
    came, go = threading.Event(), threading.Event()

    def source() -> Iterator[bytes]:
        yield b"first"
        go.wait()
        yield from (b"second", b"third", b"last")
        came.set()

    taken = newest(source())
    assert next(taken) == b"first"
    go.set()
    came.wait()
    time.sleep(0.05)
    assert list(taken) == [b"last"]


def test_what_breaks_a_stream_reaches_the_reader() -> None:
    def source() -> Iterator[bytes]:
        yield b"first"
        raise BundleError("gone")

    taken = newest(source())
    assert next(taken) == b"first"
    with pytest.raises(BundleError, match="gone"):
        next(taken)


def test_a_file_is_told_once_and_only_when_it_has_stopped_growing(tmp_path: Path) -> None:
    (tmp_path / "there.png").write_bytes(b"whole")
    (tmp_path / "notes.txt").write_bytes(b"no image")
    (tmp_path / ".hidden.png").write_bytes(b"being written")
    growing = tmp_path / "growing.jpg"

    def grow() -> None:
        for size in range(1, 6):
            growing.write_bytes(bytes(size))
            time.sleep(0.04)

    found = new_files(tmp_path, every=0.1)
    assert next(found).name == "there.png"
    writer = threading.Thread(target=grow)
    writer.start()
    told = next(found)
    assert told == growing
    assert told.stat().st_size == 5
    writer.join()
    (tmp_path / "growing.jpg").write_bytes(b"changed later")
    (tmp_path / "next.webp").write_bytes(b"x")
    assert next(found).name == "next.webp"


def test_once_ends_after_what_is_there(tmp_path: Path) -> None:
    for name in ("b.png", "a.png"):
        (tmp_path / name).write_bytes(b"x")
    assert [file.name for file in new_files(tmp_path, once=True, every=0.01)] == ["a.png", "b.png"]


@contextmanager
def mjpeg(pictures: list[bytes]) -> Iterator[str]:
    """A camera on the network: multipart/x-mixed-replace, as cheap ones send it."""

    class Camera(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            for picture in pictures:
                self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + picture + b"\r\n")
                self.wfile.flush()
                time.sleep(0.1)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/stream"
        server.shutdown()


def test_a_camera_on_the_network() -> None:
    with mjpeg(FRAMES) as address:
        assert list(camera(address)) == FRAMES


def test_a_camera_that_does_not_answer_is_one_line() -> None:
    with mjpeg([]) as address:
        pass
    with pytest.raises(BundleError, match=r"does not answer .*; see that the camera is on"):
        list(camera(address))


def test_a_device_is_read_through_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, frame in enumerate(FRAMES):
        (tmp_path / f"{number}.jpg").write_bytes(frame)
    program = tmp_path / "ffmpeg"
    program.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/asked\nfor f in {tmp_path}/?.jpg; do cat $f; sleep 0.1; done\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert list(camera("/dev/null")) == FRAMES
    assert (tmp_path / "asked").read_text().split()[:4] == ["-loglevel", "error", "-i", "/dev/null"]
    program.write_text("#!/bin/sh\nexit 7\n")
    with pytest.raises(BundleError, match="/dev/null cannot be read"):
        list(camera("/dev/null"))
    program.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BundleError, match="ffmpeg, which is not installed"):
        list(camera("/dev/null"))
    with pytest.raises(BundleError, match="/dev/video77 is not there"):
        list(camera("77"))


def test_what_is_a_camera() -> None:
    assert all(map(is_camera, ("-", "0", "/dev/video0", "http://x/", "https://x/")))
    assert not any(map(is_camera, ("folder", "./0", "/tmp/x", "")))


def watch(artifact: Artifact, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "zoo.runtime", "watch", "--bundle", str(artifact.path), "--json", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False)


def test_every_frame_gets_an_answer_and_a_broken_one_a_line(onnx_artifact: Artifact, tmp_path: Path) -> None:
    spoilt = FRAMES[0][:20] + b"spoilt" + b"\xff\xd9"
    log = tmp_path / "log.jsonl"
    done = watch(onnx_artifact, "-", "--log", str(log), stdin=b"".join([FRAMES[0], spoilt, FRAMES[2]]))
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["image"] for line in done.stdout.splitlines()] == ["frame 1", "frame 3"]
    assert b"frame 2 is " in done.stderr
    assert len(log.read_text().splitlines()) == 2
    with mjpeg(FRAMES) as address:
        done = watch(onnx_artifact, address)
    assert len(done.stdout.splitlines()) == len(FRAMES)


def test_a_folder_is_watched(onnx_artifact: Artifact, tmp_path: Path) -> None:
    for number, frame in itertools.islice(enumerate(FRAMES), 2):
        (tmp_path / f"{number}.jpg").write_bytes(frame)
    done = watch(onnx_artifact, str(tmp_path), "--once")
    names = [json.loads(line)["image"] for line in done.stdout.splitlines()]
    assert names == [str(tmp_path / "0.jpg"), str(tmp_path / "1.jpg")]
