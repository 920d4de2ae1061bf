"""`zoo.runs`: the finished runs in a folder, with what a table tells of each."""

from __future__ import annotations

import fnmatch
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from zoo.contracts.words import checked
from zoo.disk.home import runs_root
from zoo.records.find import list_runs
from zoo.records.run import Run

if TYPE_CHECKING:
    from pathlib import Path


class Runs(list[Run]):
    """Runs, which a notebook shows as a table."""

    def _repr_html_(self) -> str:
        from zoo.evaluation.figures import percent
        from zoo.evaluation.page import fragment, table

        rows = [row_of(run) for run in self]
        cells = [
            (row.name, row.model, row.dataset, percent(row.test_map or row.test_top1 or 0.0), row.created)
            for row in rows
        ]
        columns = ("run", "model", "dataset", "test top-1 or mAP", "created")
        return fragment([table(columns, cells, kind="listing") or '<p class="faint">no finished run</p>'])


@checked
def runs(folder: str | Path | None = None, pattern: str = "*") -> Runs:
    """Return the finished runs in a folder, folds among them, the newest first; damaged ones are passed over.

    Args:
        folder: Of all runs [default: $ZOO_RUNS, else ./runs].
        pattern: Only names like this.
    """
    root = runs_root(folder).absolute()
    return Runs(run for run in list_runs(root) if fnmatch.fnmatch(run.name, pattern))


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """What a table tells of a finished run."""

    name: str
    model: str
    dataset: str
    test_top1: float | None
    """In 0..1; None where an image may have several labels."""
    test_map: float | None
    """Mean average precision, in 0..1; None where an image has one label."""
    created: str

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def row_of(run: Run) -> RunRow:
    """Return the row of a finished run."""
    record = run.record()
    top1, map_ = (record.metrics["test"].get(key) for key in ("top1", "map"))
    return RunRow(
        name=run.name,
        model=record.model,
        dataset=record.dataset,
        test_top1=None if top1 is None else round(top1, 4),
        test_map=None if map_ is None else round(map_, 4),
        created=record.created[:19],
    )
