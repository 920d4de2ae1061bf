"""A run directory: its layout, its lock, and the lines of metrics.jsonl."""

from __future__ import annotations

import contextlib
import json
import re
from typing import TYPE_CHECKING, Any

from zoo.disk.files import write_json, write_text
from zoo.errors import EnvironmentBroken, RunInvalid

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from zoo.records.record import RunRecord


FOLD = re.compile(r"fold-[1-9]\d*")
"""The folder of one fold, inside the folder of all."""


class Run:
    """One run directory; what is in it is found through these paths only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record_file = path / "run.json"
        self.metrics_file = path / "metrics.jsonl"
        self.best_file = path / "best.safetensors"
        self.checkpoint_file = path / "last.ckpt"
        self.previous_checkpoint_file = path / "previous.ckpt"
        self.report_file = path / "report.html"
        self.export_folder = path / "export"
        self.plan_file = path / "plan.json"
        self.folds_file = path / "folds.json"

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def _repr_html_(self) -> str | None:
        """Show a finished run in a notebook; any other is shown as text."""
        if not self.finished:
            return None
        from zoo.records.page import run_fragment

        try:
            epochs = [json.loads(line) for line in self.metrics_file.read_text().splitlines()]
        except (OSError, ValueError):
            epochs = []  # a page without curves is better than none
        return run_fragment(self.path, self.record(), epochs)

    @property
    def name(self) -> str:
        """What it is called below the folder of all runs: the name of its folder, NAME/fold-2 for a fold of NAME."""
        path = self.path.absolute()
        return f"{path.parent.name}/{path.name}" if FOLD.fullmatch(path.name) else path.name

    @property
    def finished(self) -> bool:
        """Whether training came to its end."""
        return self.record_file.is_file()

    @property
    def holds_folds(self) -> bool:
        """Whether it is no run itself, but the folder of several that validate on different folds."""
        return self.plan_file.is_file() or bool(self.folds())

    def fold(self, number: int) -> Run:
        """Return the run of one fold, counted from 1; it need not exist."""
        return Run(self.path / f"fold-{number}")

    def folds(self) -> list[Run]:
        """Return the folds that are there, in order; a run that is none of several folds has none."""
        if self.finished or not self.path.is_dir():
            return []
        found = [path for path in self.path.iterdir() if FOLD.fullmatch(path.name) and path.is_dir()]
        return [Run(path) for path in sorted(found, key=lambda path: int(path.name.partition("-")[2]))]

    @property
    def resumable(self) -> bool:
        """Whether training began and did not come to its end."""
        if self.holds_folds:
            return not self.folds_file.is_file()
        return not self.finished and self.checkpoint_file.is_file()

    def record(self) -> RunRecord:
        """Read `run.json`.

        Raises:
            RunInvalid: there is none, or it is damaged or of a later schema.
        """
        if not self.finished:
            raise RunInvalid(self._why_unfinished())
        from pydantic import ValidationError

        from zoo.records.record import SCHEMA, RunRecord

        try:
            record = RunRecord.model_validate(json.loads(self.record_file.read_text()))
        except (OSError, ValueError, RecursionError) as exc:
            detail = exc.errors()[0]["msg"] if isinstance(exc, ValidationError) else str(exc)
            raise RunInvalid(f"{self.record_file} is damaged: {detail}; train again") from exc
        if record.schema_version > SCHEMA:
            raise RunInvalid(
                f"{self.record_file} has schema {record.schema_version}, newer than this zoo; upgrade edgezoo"
            )
        if not self.best_file.is_file():
            raise RunInvalid(f"{self.best_file} is missing; put it back or train again")
        return record

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training in this folder; a process that dies lets go of it.

        Raises:
            RunInvalid: another process is training here.
            EnvironmentBroken: the folder cannot be written.
        """
        import filelock

        file = self.path / ".lock"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(file, timeout=0)
            lock.acquire()
        except filelock.Timeout as exc:
            raise RunInvalid(
                f"{self.path} is being trained by another process; wait for it, or train under another --name"
            ) from exc
        except OSError as exc:
            raise EnvironmentBroken(
                f"cannot write {self.path}: {exc.strerror or exc}; free space or choose another place"
            ) from exc
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                file.unlink()
            lock.release()

    def add_metrics(self, line: Mapping[str, Any]) -> None:
        """Add one epoch's line to metrics.jsonl."""
        try:
            with self.metrics_file.open("a") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as exc:
            raise EnvironmentBroken(
                f"cannot write {self.metrics_file}: {exc.strerror or exc}; free space or choose another place"
            ) from exc

    def restore_metrics(self, history: Sequence[Mapping[str, Any]], epochs: int) -> None:
        """Make metrics.jsonl what the checkpoint knows: no line more, none less, none cut off.

        Args:
            history: The lines; none in checkpoints of the first runs, whose file is cut to `epochs` instead.
            epochs: How many are complete.
        """
        found = self.metrics_file.read_text() if self.metrics_file.is_file() else ""
        lines = [json.dumps(line) for line in history] or found.splitlines()[:epochs]
        wanted = "".join(f"{line}\n" for line in lines)
        if found != wanted:
            write_text(self.metrics_file, wanted)

    def write_record(self, record: RunRecord) -> None:
        """Declare the run finished; the last file that training writes."""
        write_json(self.record_file, {**record.model_dump(mode="json", by_alias=True)})

    def _why_unfinished(self) -> str:
        if not self.path.is_dir():
            return f"{self.path}: no such run; `zoo list runs` shows what there is"
        folds = self.folds()
        if folds:
            return f"{self.path} holds folds, each a run of its own; name one, for example {folds[0].name}"
        if self.checkpoint_file.is_file() or self.plan_file.is_file():
            return f"{self.path} is not finished; go on with `zoo train --resume --name {self.name}`"
        return f"{self.path} holds no finished run (no run.json); train one with `zoo train`"
