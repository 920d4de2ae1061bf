"""How much the cache may hold: what was not used for the longest time makes room."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class Budget:
    """Bytes that stores may keep, all together."""

    def __init__(self, limit: float, root: Path | None = None, keep: frozenset[Path] = frozenset()) -> None:
        """Count what is there.

        Args:
            limit: Bytes.
            root: The folder of all stores; None for those in memory.
            keep: Stores below it that must stay.
        """
        self.limit = limit
        self._root = root
        self._keep = keep
        self._used = sum(size_of(folder) for folder in _folders(root))

    def take(self, size: int) -> bool:
        """Tell whether so many bytes more may be kept, and count them; older stores are removed to make room."""
        if self._used + size > self.limit:
            self._make_room(size)
        if self._used + size > self.limit:
            return False
        self._used += size
        return True

    def _make_room(self, size: int) -> None:
        others = [folder for folder in _folders(self._root) if folder not in self._keep]
        for folder in sorted(others, key=lambda place: place.stat().st_mtime):
            if self._used + size <= self.limit:
                return
            # A run that still reads it keeps its pages: a mapped file lives on without a name.
            self._used -= size_of(folder)
            shutil.rmtree(folder, ignore_errors=True)


def size_of(folder: Path) -> int:
    """Return the bytes of the files in a folder; one that vanishes meanwhile counts nothing."""
    total = 0
    for file in folder.iterdir():
        try:
            total += file.stat().st_size
        except OSError:
            continue
    return total


def _folders(root: Path | None) -> list[Path]:
    return [place for place in root.iterdir() if place.is_dir()] if root and root.is_dir() else []
