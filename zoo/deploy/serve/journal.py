"""The log of predictions, written by a thread of its own, which never holds up an answer."""

from __future__ import annotations

import logging
import queue
import threading
from typing import TYPE_CHECKING

from zoo.runtime.record import Record

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from zoo.deploy.serve.metrics import Metrics
    from zoo.runtime.model import Answer

WAITING = 1000
"""Entries that may wait for a slow disk; more are dropped, and counted."""
Entry = tuple[str, "Answer", "np.ndarray", float]


class Journal:
    """Appends entries to a file for as long as the server lives; a full disk stops no answer."""

    def __init__(self, path: Path, metrics: Metrics) -> None:
        self._path, self._metrics, self._failed = path, metrics, False
        self._records: dict[str, Record] = {}
        self._waiting: queue.Queue[Entry | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._write, name="zoo-log", daemon=True)
        self._thread.start()

    def add(self, model: str, answer: Answer, pixels: np.ndarray, milliseconds: float) -> None:
        """Keep what a model (its SHA-256) answered of an image, uint8 [H, W, 3]; from any thread."""
        try:
            self._waiting.put_nowait((model, answer, pixels, milliseconds))
        except queue.Full:
            self._metrics.logged.labels("dropped").inc()

    def close(self) -> None:
        """Write what waits."""
        self._waiting.put(None)
        self._thread.join()

    def _write(self) -> None:
        while (entry := self._waiting.get()) is not None:
            model, answer, pixels, milliseconds = entry
            try:
                if model not in self._records:
                    self._records[model] = Record(self._path, model)
                self._records[model].add(answer, pixels, milliseconds)
            except Exception as exc:  # sqlite3 has errors of its own
                self._metrics.logged.labels("failed").inc()
                if not self._failed:
                    logging.getLogger("zoo.serve").error(f"{self._path} cannot be written ({exc}); answers go on")
                self._failed = True
            else:
                self._metrics.logged.labels("written").inc()
                self._failed = False
