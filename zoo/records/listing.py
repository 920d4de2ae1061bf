"""`zoo.runs`: the finished runs in a folder, with what a table tells of each."""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import Any

from zoo.disk.home import runs_root
from zoo.records.find import list_runs
from zoo.records.run import Run


class Runs(list[Run]):
    """Runs, which a notebook shows as a table."""

    def _repr_html_(self) -> str:
        from zoo.evaluation.page import fragment, table

        rows = [row_of(run) for run in self]
        cells = [["" if value is None else value for value in row.values()] for row in rows]
        return fragment([table([*rows[0]], cells) if rows else '<p class="faint">no finished run</p>'])


def runs(folder: str | Path | None = None, pattern: str = "*") -> Runs:
    """Return the finished runs in a folder, folds among them, the newest first; damaged ones are passed over.

    Args:
        folder: Of all runs [default: $ZOO_RUNS, else ./runs].
        pattern: Only names like this.
    """
    root = runs_root(None if folder is None else Path(folder))
    return Runs(run for run in list_runs(root) if fnmatch.fnmatch(run.name, pattern))


def row_of(run: Run) -> dict[str, Any]:
    """Return what a table tells of a finished run; figures that it does not have are None."""
    record = run.record()
    test = record.metrics["test"]
    figures = {f"test_{key}": round(test[key], 4) if key in test else None for key in ("top1", "map")}
    about = {"name": run.name, "model": record.model, "dataset": record.dataset}
    return {**about, **figures, "created": record.created[:19]}
