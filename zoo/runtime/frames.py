"""Images as they come: new files in a folder, or the frames of a camera as a stream of JPEG pictures."""

from __future__ import annotations

import contextlib
import queue
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import IO, TYPE_CHECKING

from .errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
EVERY_SECONDS = 0.2
START, END = b"\xff\xd8", b"\xff\xd9"
READ = 65536
MOST_BYTES = 64_000_000
"""Of one frame; a stream without an end of a picture is none."""


def new_files(folder: Path, *, once: bool = False, every: float = EVERY_SECONDS) -> Iterator[Path]:
    """Yield image files as they appear in a folder, those that are there first; each when it has stopped growing.

    Args:
        folder: Where; folders in it are not looked into.
        once: End when all that is there has been told.
        every: Seconds between two looks.
    """
    told: set[str] = set()
    sizes: dict[str, tuple[int, float]] = {}
    while True:
        waiting = False
        for path in sorted(folder.iterdir()):
            if path.name in told or path.name.startswith(".") or path.suffix.lower() not in SUFFIXES:
                continue
            with contextlib.suppress(FileNotFoundError):
                found = path.stat()
                before, sizes[path.name] = sizes.get(path.name), (found.st_size, found.st_mtime)
                if before == sizes[path.name]:
                    told.add(path.name)
                    yield path
                else:
                    waiting = True
        if once and not waiting:
            return
        time.sleep(every)


def camera(address: str) -> Iterator[bytes]:
    """Yield the frames of a camera as JPEG pictures.

    Args:
        address: "-" for a stream of JPEG pictures on standard input, all of them; http:// or https:// for such a stream
            from the network (MJPEG), "/dev/video0" or "0" for a camera of this machine, which is read through `ffmpeg`:
            of these two frames are left out that came while an earlier one was being looked at.

    Raises:
        BundleError: it cannot be opened.
    """
    if address == "-":
        yield from pictures(sys.stdin.buffer)
    elif address.startswith(("http://", "https://")):
        try:
            with urllib.request.urlopen(address, timeout=10) as stream:
                yield from newest(pictures(stream))
        except OSError as exc:
            raise BundleError(f"{address} does not answer ({exc}); see that the camera is on and reachable") from exc
    else:
        yield from _device(f"/dev/video{address}" if address.isdigit() else address)


def is_camera(address: str) -> bool:
    """Tell a camera from a folder."""
    return address == "-" or address.isdigit() or address.startswith(("http://", "https://", "/dev/"))


def _device(device: str) -> Iterator[bytes]:
    if not Path(device).exists():
        raise BundleError(f"{device} is not there; `ls /dev/video*` lists the cameras of this machine")
    ffmpeg = shutil.which("ffmpeg")
    if not ffmpeg:
        raise BundleError(
            f"{device} is read through ffmpeg, which is not installed; or pipe JPEG pictures into `watch -`"
        )
    command = [ffmpeg, "-loglevel", "error", "-i", device, "-f", "mjpeg", "-q:v", "3", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            yield from newest(pictures(process.stdout))
        finally:
            process.kill()
    if process.returncode not in (0, -9):
        raise BundleError(f"{device} cannot be read; see what ffmpeg said above")


def pictures(stream: IO[bytes]) -> Iterator[bytes]:
    """Cut a stream into its JPEG pictures; what stands between them, such as MJPEG's headers, is dropped."""
    held = b""
    read = getattr(stream, "read1", stream.read)
    while chunk := read(READ):
        held += chunk
        while (found := _first(held)) is not None:
            begin, end = found
            yield held[begin:end]
            held = held[end:]
        if len(held) > MOST_BYTES:
            raise BundleError("the stream holds no JPEG pictures; ask the camera for MJPEG")


def newest(frames: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the last frame that came, as often as one is asked for and there is a new one."""
    waiting: queue.Queue[bytes | BaseException | None] = queue.Queue()

    def read() -> None:
        try:
            for frame in frames:
                waiting.put(frame)
            waiting.put(None)
        except Exception as exc:
            waiting.put(exc)

    threading.Thread(target=read, daemon=True).start()
    while True:
        frame = waiting.get()
        while isinstance(frame, bytes) and not waiting.empty() and isinstance(waiting.queue[0], bytes):
            frame = waiting.get()
        if isinstance(frame, BaseException):
            raise frame
        if frame is None:
            return
        yield frame


def _first(data: bytes) -> tuple[int, int] | None:
    """Return where the first complete picture lies; a thumbnail in its header is a part of it."""
    begin = data.find(START)
    if begin < 0:
        return None
    place = begin + 2
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != 0xDA:
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    # After the header every 0xFF of the pixels is followed by a zero, so that the end is the end.
    end = data.find(END, place)
    return None if end < 0 or place + 4 > len(data) else (begin, end + 2)
