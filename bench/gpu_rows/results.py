"""The results: what each row came to, and on which machine, in one JSON file that a later call goes on with."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from bench.gpu_rows.report import DONE, FAILED, NOT_RUN

if TYPE_CHECKING:
    from pathlib import Path

    from bench.gpu_rows.report import Figure

SCHEMA = 1
STATES = (DONE, FAILED, NOT_RUN)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one row came to."""

    state: str
    """done, failed or not run."""
    reason: str = ""
    """Of what is not done."""
    figures: dict[str, Figure] = field(default_factory=dict)
    """Of a row that failed, what it had found before."""
    seconds: float = 0.0
    """From the start of its process to its end."""

    def __str__(self) -> str:
        told = ", ".join(f"{name} {value}" for name, value in self.figures.items())
        if self.state == DONE:
            return told or DONE
        return f"{self.state}: {self.reason}" + (f" (before that: {told})" if told else "")


class Results:
    """Results in a file; without one they are only in memory."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.machine: dict[str, Any] = {}
        self.rows: dict[str, Result] = {}
        if file is not None and file.exists():
            self._read(file)

    def _read(self, file: Path) -> None:
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            self.machine = found["machine"]
            self.rows = {name: Result(**row) for name, row in found["rows"].items()}
            schema = found["schema"]
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise SystemExit(f"{file} holds no results of this bench ({exc}); name another --out") from exc
        if schema != SCHEMA:
            raise SystemExit(f"{file} has schema {schema}, not {SCHEMA}; name another --out")

    def go_on(self, machine: dict[str, Any]) -> None:
        """Take the machine that further rows are measured on.

        Raises:
            SystemExit: what the file has is of another one.
        """
        for fact in ("cards", "processor"):
            if self.machine and self.machine.get(fact) != machine.get(fact):
                raise SystemExit(f"{self.file} is of another machine ({self.machine.get(fact)}); name another --out")
        self.machine = machine

    def keeps(self, name: str) -> bool:
        """Tell whether a row is there; one that was not run may be possible now."""
        return name in self.rows and self.rows[name].state != NOT_RUN

    def add(self, name: str, result: Result) -> None:
        """Keep a row, on the disk as well."""
        self.rows[name] = result
        if self.file is not None:
            part = self.file.with_name(self.file.name + ".part")
            part.write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")
            part.replace(self.file)

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        rows = {name: asdict(result) for name, result in self.rows.items()}
        return {"schema": SCHEMA, "machine": self.machine, "rows": rows}
