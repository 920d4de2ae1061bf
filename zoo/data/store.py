"""Decoded images on disk: uint8 arrays in memory-mapped files that several runs share, complete or not there at all."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from typing import TYPE_CHECKING

import numpy as np

from zoo.disk.files import write_atomic
from zoo.errors import EnvironmentBroken

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.data.budget import Budget

SEGMENT_BYTES = 64 * 2**20
"""What is kept in memory before it is written."""
STALE_SECONDS = 3600
PIXELS, INDEX = ".pixels", ".npy"


class PixelStore:
    """Number of an image -> uint8 [h, w, 3].

    A folder holds segments: `NAME.pixels`, the bytes of some images, and `NAME.npy`, int64 [n, 4]: the number of each,
    where its bytes begin, its height and width. The second is written last and makes the first one count, so a process
    may die at any moment. Segments are never changed; every process writes its own and reads those that it finds.
    """

    def __init__(self, folder: Path | None, budget: Budget) -> None:
        """Read what is there.

        Args:
            folder: Of the segments; None keeps everything in memory.
            budget: What may be kept.
        """
        self.folder = folder
        self.full = ""
        """Why nothing more is kept; empty as long as there is room."""
        self._budget = budget
        self._lock = threading.Lock()
        self._segments: list[np.ndarray] = []
        self._places: dict[int, tuple[int, int, int, int]] = {}
        self._fresh: dict[int, np.ndarray] = {}
        self._fresh_bytes = 0
        if folder:
            self._read(folder)

    def __len__(self) -> int:
        return len(self._places) + len(self._fresh)

    def get(self, number: int) -> np.ndarray | None:
        """Return an image, not to be written to; None if it is not there."""
        place = self._places.get(number)
        if place is None:
            return self._fresh.get(number)
        segment, begin, height, width = place
        return self._segments[segment][begin : begin + 3 * height * width].reshape(height, width, 3)

    def put(self, number: int, pixels: np.ndarray) -> None:
        """Keep an image, if there is room; it reaches the disk with its segment."""
        if self.full:
            return
        with self._lock:
            if number in self._fresh or number in self._places:
                return
            if not self._budget.take(pixels.nbytes):
                self.full = f"its limit of {self._budget.limit / 1e9:g} GB is reached"
                return
            self._fresh[number] = np.ascontiguousarray(pixels)
            self._fresh_bytes += pixels.nbytes
            if self.folder and self._fresh_bytes >= SEGMENT_BYTES:
                self._write(self.folder)

    def flush(self) -> None:
        """Write what is only in memory so far."""
        with self._lock:
            if self.folder and self._fresh and not self.full:
                self._write(self.folder)

    def _write(self, folder: Path) -> None:
        name, begin, rows = uuid.uuid4().hex, 0, []
        for number, pixels in self._fresh.items():
            rows.append((number, begin, *pixels.shape[:2]))
            begin += pixels.nbytes
        index = np.array(rows, dtype=np.int64)
        try:
            write_atomic(folder / (name + PIXELS), lambda file: [file.write(p.data) for p in self._fresh.values()])
            write_atomic(folder / (name + INDEX), lambda file: np.save(file, index))
        except EnvironmentBroken as exc:
            self.full = str(exc)  # images are decoded again in every epoch, to the same pixels
            return
        self._add(folder / (name + PIXELS), index)
        self._fresh, self._fresh_bytes = {}, 0

    def _add(self, file: Path, index: np.ndarray) -> None:
        self._segments.append(np.memmap(file, np.uint8, "r"))
        for number, *place in index.tolist():
            self._places.setdefault(number, (len(self._segments) - 1, *place))

    def _read(self, folder: Path) -> None:
        for file in sorted(folder.glob(f"*{INDEX}")):
            # A damaged or foreign file must not cost more than decoding again.
            with contextlib.suppress(OSError, ValueError, EOFError):
                index, pixels = np.load(file, allow_pickle=False), file.with_suffix(PIXELS)
                if _fits(index, pixels.stat().st_size):
                    self._add(pixels, index)
                    continue
            file.unlink(missing_ok=True)
        _sweep(folder)


def _fits(index: np.ndarray, size: int) -> bool:
    if index.ndim != 2 or index.shape[1] != 4 or index.dtype != np.int64 or not len(index):
        return False
    ends = index[:, 1] + 3 * index[:, 2] * index[:, 3]
    return bool((index[:, 1:] >= 0).all() and ends.max() == size)


def _sweep(folder: Path) -> None:
    """Remove what killed processes left behind; recent files may belong to one that lives."""
    for file in folder.iterdir() if folder.is_dir() else []:
        lone = file.suffix == PIXELS and not file.with_suffix(INDEX).is_file()
        with contextlib.suppress(OSError):
            if (lone or file.name.startswith(".")) and time.time() - file.stat().st_mtime > STALE_SECONDS:
                file.unlink()
