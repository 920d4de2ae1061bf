"""Another model at the same path: loaded and tried beside the one that answers, then put in its place."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from zoo.errors import ZooError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zoo.deploy.serve.subject import Subject

Identity = tuple[tuple[str, int, int, int], ...]


class Current:
    """The subject that answers; `look` finds out whether the path holds another one by now.

    Args:
        path: What is served.
        load: Loads and proves it.
        told: Gets "swapped" or "refused", and a line about it.
    """

    def __init__(self, path: Path, load: Callable[[Path], Subject], told: Callable[[str, str], None]) -> None:
        self._path, self._load, self._told = path, load, told
        # Before it is loaded: what changes meanwhile is found at the next look.
        self._seen = self._loaded = identity(path)
        self.subject = load(path)

    def look(self) -> None:
        """Look once, and load what has changed and then stood still between two looks; one thread at a time.

        A bad one leaves the old one where it is, and is not tried again before it changes.
        """
        found = identity(self._path)
        still, self._seen = found == self._seen, found
        if not found or not still or found == self._loaded:
            return
        self._loaded = found
        try:
            subject = self._load(self._path)
        except ZooError as exc:
            self._told("refused", f"{exc}; {self.subject.sha256[:12]} goes on answering")
            return
        # One assignment, which other threads see as a whole: a batch has either the old one or the new one.
        old, self.subject = self.subject, subject
        self._told("swapped", f"{self._path}: {subject.sha256[:12]} answers from now on, in place of {old.sha256[:12]}")


def identity(path: Path) -> Identity:
    """Return what tells one content of a folder from another without reading it; empty where there is none."""
    try:
        folder = path.resolve()
        with os.scandir(folder) as entries:
            stats = [(entry.name, entry.stat()) for entry in entries]
    except OSError:
        return ()
    return tuple(sorted((name, found.st_ino, found.st_size, found.st_mtime_ns) for name, found in stats))
