"""Rows, one after the other, each in a process of its own with a time limit; nothing heavy is imported here."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.gpu_rows.report import DONE, FAILED, NOT_RUN, RUNNING
from bench.gpu_rows.results import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bench.gpu_rows.results import Results
    from bench.gpu_rows.table import Row

ROOT = Path(__file__).resolve().parent.parent.parent
MARK = "ZOO_GPU_BENCH"
"""In the environment of rows: the scratch folder."""
LEAST = 5.0
"""Seconds that must be left for a row to be begun: less is not even enough for its imports."""


@dataclass(kw_only=True)
class Runner:
    """Answers rows until the time is over."""

    folder: Path
    """Scratch: files of rows, and what they draw and train."""
    budget: float
    """Seconds for all rows together."""
    rehearsal: bool = False
    paths: tuple[Path, ...] = ()
    """To import from, before all others."""
    note: Callable[[str], None] = print
    begin: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds of the budget that are left."""
        return self.budget - (time.monotonic() - self.begin)

    def run_all(self, rows: Iterable[Row], results: Results, *, again: bool = False) -> None:
        """Answer rows and keep each at once; those that are there stay, unless they shall be answered again."""
        cards = len(results.machine.get("cards", []))
        for row in rows:
            if results.keeps(row.name) and not again:
                self.note(f"{row.name}: kept: {results.rows[row.name]}")
                continue
            result = self.refused(row, cards) or self.run(row)
            results.add(row.name, result)
            self.note(f"{row.name}: {result}")

    def refused(self, row: Row, cards: int) -> Result | None:
        """Return why a row cannot be begun, if so."""
        missing = [name for name in row.needs if importlib.util.find_spec(name) is None]
        reason = ""
        if row.cards and not cards and not self.rehearsal:
            reason = "no GPU"
        elif row.cards > max(1, cards) and not self.rehearsal:
            reason = f"it takes {row.cards} GPUs, and here is one"
        elif missing:
            reason = f"needs {', '.join(missing)}"
        elif self.left < LEAST:
            reason = "no time left"
        return Result(state=NOT_RUN, reason=reason) if reason else None

    def run(self, row: Row) -> Result:
        """Answer a row in a process of its own, and end whatever that leaves."""
        file, log = self.folder / f"{row.name}.json", self.folder / f"{row.name}.log"
        file.unlink(missing_ok=True)
        shared = self.folder / "shared"
        shared.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "bench.gpu_rows.child", row.call, str(file), str(shared)]
        begin, limit = time.monotonic(), min(row.limit, self.left)
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*command, *(["rehearsal"] if self.rehearsal and row.cards else [])],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=self.environment(),
                # A group of its own: what it starts is ended with it.
                start_new_session=True,
            )
            try:
                process.wait(limit)
                ended = _how(process.returncode, log)
            except subprocess.TimeoutExpired:
                ended = f"no end within {limit:.0f} s"
            finally:
                _end(process, str(self.folder))
        return _judged(_read(file), ended, time.monotonic() - begin)

    def environment(self) -> dict[str, str]:
        """Return what rows find around them: this tree first, a home of their own, and no network."""
        paths = [*self.paths, ROOT, ROOT / "exporters", ROOT / "plugins"]
        before = os.environ.get("PYTHONPATH", "")
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([*map(str, paths), *([before] if before else [])]),
            "PYTHONUNBUFFERED": "1",
            MARK: str(self.folder),
            "ZOO_HOME": str(self.folder / "home"),
            "HF_HUB_OFFLINE": "1",
        }


def _end(process: subprocess.Popen[bytes], folder: str) -> None:
    """End a row with all that it started: its group, and those that made groups of their own, as launchers do."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    # They have the scratch folder of this very command in their environment, and nobody else has.
    mark = f"{MARK}={folder}".encode()
    for place in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in place.read_bytes().split(b"\0"):
                os.kill(int(place.parent.name), signal.SIGKILL)


def _how(code: int, log: Path) -> str:
    """Return how a process ended; empty if well."""
    if code == 0:
        return ""
    if code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}" if name in ("SIGKILL", "SIGTERM") else f"crashed with {name}"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"exit code {code}: {lines[-1][:300] if lines else 'it said nothing'}"


def _read(file: Path) -> dict[str, Any]:
    """Return what a row wrote; empty if that is nothing, or nothing of ours."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    right = isinstance(found, dict) and isinstance(found.get("figures"), dict)
    return found if right and found.get("state") in (RUNNING, DONE, FAILED, NOT_RUN) else {}


def _judged(found: dict[str, Any], ended: str, seconds: float) -> Result:
    """Return the result: what the row says of itself counts only if its process ended as it says."""
    state, reason = found.get("state", ""), str(found.get("reason", ""))
    figures = found.get("figures", {})
    if not found:
        state, reason = FAILED, ended or "it wrote no result"
    elif state == RUNNING:
        state, reason = FAILED, ended or "it ended before it was done"
    elif ended and state != FAILED:
        # It had answered; what went wrong afterwards is told all the same.
        state, reason = FAILED, ended
    return Result(state=state, reason=reason, figures=figures, seconds=round(seconds, 1))
