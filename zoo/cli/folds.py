"""`zoo train --folds N`: what is told of several runs that belong together."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.records.run import Run


def print_folds(run: Run, *, json: bool) -> None:
    """Print a fold a line, and what they come to; or all of `folds.json`."""
    from zoo.cli.output import print_json, print_table, stdout
    from zoo.training.folds.result import SPLITS, read, table

    found = read(run)
    if json:
        print_json({"run": str(run.path), **found.model_dump(mode="json", by_alias=True)})
        return
    # Side by side they would not fit into a terminal of 80 columns.
    for split in SPLITS:
        print_table(*table(found, (split,)))
    stdout().print(
        f"{run.path} is finished, and its page {run.report_file}; each fold is a run: zoo eval {run.fold(1).name}"
    )
