"""A log of predictions, for those who ask for one: JSON lines, or a table in SQLite; never a picture."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Any

from .statistics import image_statistics

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np

    from .model import Answer

SQLITE = (".sqlite", ".sqlite3", ".db")
COLUMNS = ("time", "model", "image", "prediction", "confidence", "unknown", "milliseconds", "statistics")


class Record:
    """Appends one entry an image to `path`; several threads may call it.

    Entries have: `time` (seconds since 1970), `model` (SHA-256 of the model file), `image` (its name), `prediction`
    (a class, or a list of labels), `confidence` (the largest probability), `unknown` (or null), `milliseconds` (of the
    network), `statistics` (see `image_statistics`).
    """

    def __init__(self, path: Path, model: str) -> None:
        self._path, self._model, self._lock = path, model, threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in SQLITE:
            with _database(self._path) as database:
                database.execute(f"CREATE TABLE IF NOT EXISTS predictions ({', '.join(COLUMNS)})")

    def add(self, answer: Answer, pixels: np.ndarray, milliseconds: float) -> None:
        """Keep what was answered of an image, uint8 [H, W, 3] as the network got it."""
        labels = None if answer.labels is None else [name for name, _ in answer.labels]
        entry = {
            "time": round(time.time(), 3),
            "model": self._model,
            "image": answer.image,
            "prediction": answer.top[0][0] if labels is None else labels,
            "confidence": round(answer.top[0][1], 6),
            "unknown": answer.unknown,
            "milliseconds": round(milliseconds, 3),
            "statistics": {name: round(value, 5) for name, value in image_statistics(pixels).items()},
        }
        with self._lock:
            if self._path.suffix in SQLITE:
                self._insert(entry)
            else:
                # One write of a whole line, so that several processes may share the file.
                with self._path.open("ab", buffering=0) as file:
                    file.write((json.dumps(entry) + "\n").encode())

    def _insert(self, entry: dict[str, Any]) -> None:
        plain = [json.dumps(entry[name]) if name in ("prediction", "statistics") else entry[name] for name in COLUMNS]
        with _database(self._path) as database:
            database.execute(f"INSERT INTO predictions VALUES ({', '.join('?' * len(COLUMNS))})", plain)


@contextlib.contextmanager
def _database(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database, keep what was done unless it failed, and close it, which sqlite3's own context leaves open."""
    with contextlib.closing(sqlite3.connect(str(path), timeout=10)) as database, database:
        yield database


def read_record(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the entries of a log, the oldest first; a last line that a crash cut off is passed over.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no log of predictions.
    """
    if path.suffix in SQLITE:
        yield from _rows(path)
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                entry = json.loads(line)
                entry["confidence"], entry["statistics"], entry["prediction"]
            except (ValueError, KeyError, TypeError) as exc:
                raise ValueError(f"line {number} is no entry of a log of predictions") from exc
            yield entry


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        raise FileNotFoundError(2, "No such file", str(path))
    try:
        with _database(path) as database:
            rows = database.execute(f"SELECT {', '.join(COLUMNS)} FROM predictions ORDER BY time").fetchall()
    except sqlite3.Error as exc:
        raise ValueError(str(exc)) from exc
    for row in rows:
        entry = dict(zip(COLUMNS, row))
        entry["prediction"], entry["statistics"] = json.loads(entry["prediction"]), json.loads(entry["statistics"])
        entry["unknown"] = None if entry["unknown"] is None else bool(entry["unknown"])
        yield entry
