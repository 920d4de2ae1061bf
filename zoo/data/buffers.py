"""Memory for batches, used again: a fresh array of ten megabytes costs more than a tenth of filling it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

import numpy as np

Allocate = Callable[[tuple[int, ...]], np.ndarray]
"""Makes a uint8 array of a shape; for a GPU, in pinned memory."""


def fresh(shape: tuple[int, ...]) -> np.ndarray:
    """Return an array whose content is arbitrary."""
    return np.empty(shape, np.uint8)


class Buffers:
    """Gives out arrays of one shape; one that nobody refers to any more, nor to a part of it, is given out again."""

    def __init__(self, shape: tuple[int, ...], allocate: Allocate | None = None) -> None:
        self._shape = shape
        self._allocate = allocate or fresh
        self._lock = threading.Lock()
        self._arrays: list[np.ndarray] = [self._allocate(self._shape)]
        # What counts as "nobody" depends on the interpreter, so it is measured on an array that is surely free.
        self._free = self._references(0)

    def take(self) -> np.ndarray:
        """Return an array whose content is arbitrary."""
        with self._lock:
            for index in range(len(self._arrays)):
                if self._references(index) == self._free:
                    return self._arrays[index]
            self._arrays.append(self._allocate(self._shape))
            return self._arrays[-1]

    def _references(self, index: int) -> int:
        return sys.getrefcount(self._arrays[index])
