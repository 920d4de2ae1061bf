"""What folds come to: the figures of each, their mean and standard deviation; `folds.json` and a page."""

from __future__ import annotations

import json
import statistics
from html import escape
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from zoo.disk.files import write_json, write_text
from zoo.errors import RunInvalid
from zoo.evaluation.figures import TITLES, figure, headline, summary
from zoo.evaluation.page import Markup, page
from zoo.evaluation.page import table as page_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from zoo.records.config import TrainConfig
    from zoo.records.record import RunRecord
    from zoo.records.run import Run

SCHEMA = 1
SPLITS = ("val", "test")
Figures = dict[str, int | float]


class FoldRow(BaseModel):
    """One fold."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    fold: int
    run: str
    """Its folder, inside the folder of all."""
    epochs: int
    val: Figures
    test: Figures


class FoldsRecord(BaseModel):
    """`folds.json`: written when every fold is finished, the same however often they were stopped."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    schema_version: int = Field(SCHEMA, alias="schema")
    model: str
    dataset: str
    classes: tuple[str, ...]
    folds: tuple[FoldRow, ...]
    mean: dict[str, dict[str, float]]
    """Split -> figure -> mean over the folds."""
    std: dict[str, dict[str, float]]
    """The same, standard deviation: of a sample, so divided by one less than there are folds."""
    config: dict[str, Any]
    """What all folds share."""
    origins: dict[str, str]
    seed: int
    split_rule: str
    dataset_fingerprint: str


def conclude(run: Run, config: TrainConfig, origins: Mapping[str, str], records: Sequence[RunRecord]) -> FoldsRecord:
    """Write the page and then `folds.json`.

    Args:
        run: The folder of all folds.
        config: What they share.
        origins: Option -> where its value comes from.
        records: Of every fold, in order.
    """
    rows = tuple(
        FoldRow(
            fold=number,
            run=run.fold(number).path.name,
            epochs=record.metrics["epochs"],
            **{split: _numbers(record.metrics[split]) for split in SPLITS},
        )
        for number, record in enumerate(records, 1)
    )
    columns = {split: _columns([getattr(row, split) for row in rows]) for split in SPLITS}
    found = FoldsRecord(
        model=config.model,
        dataset=config.dataset,
        classes=records[0].classes,
        folds=rows,
        mean={split: {key: statistics.fmean(values) for key, values in columns[split].items()} for split in SPLITS},
        std={split: {key: statistics.stdev(values) for key, values in columns[split].items()} for split in SPLITS},
        config=config.model_dump(mode="json"),
        origins=dict(origins),
        seed=config.seed,
        split_rule=str(records[0].chosen["split_rule"]),
        dataset_fingerprint=records[0].dataset_fingerprint,
    )
    write_text(run.report_file, render(run.name, found))
    write_json(run.folds_file, found.model_dump(mode="json", by_alias=True))
    return found


def read(run: Run) -> FoldsRecord:
    """Read `folds.json`.

    Raises:
        RunInvalid: it is damaged or of a later schema.
    """
    try:
        found = FoldsRecord.model_validate(json.loads(run.folds_file.read_text()))
    except (OSError, ValueError, RecursionError) as exc:
        detail = exc.errors()[0]["msg"] if isinstance(exc, ValidationError) else str(exc)
        again = f"remove it and `zoo train --resume --name {run.name}` writes it again"
        raise RunInvalid(f"{run.folds_file} is damaged: {detail}; {again}") from exc
    if found.schema_version > SCHEMA:
        raise RunInvalid(f"{run.folds_file} has schema {found.schema_version}, newer than this zoo; upgrade edgezoo")
    return found


def table(found: FoldsRecord, splits: Sequence[str] = SPLITS) -> tuple[list[str], list[list[str]]]:
    """Return columns and rows: a fold a line, and last mean ± standard deviation."""
    columns = {split: list(summary(getattr(found.folds[0], split))) for split in splits}
    rows = [
        [str(row.fold), *(cell for split in splits for cell in summary(getattr(row, split)).values())]
        for row in found.folds
    ]
    keys = {title: key for key, title in TITLES.items()}
    last = ["mean", *(told(found, split, keys[title]) for split in splits for title in columns[split])]
    return ["fold", *(f"{split} {title}" for split in splits for title in columns[split])], [*rows, last]


def told(found: FoldsRecord, split: str, key: str) -> str:
    """Write a figure as mean ± standard deviation; nothing of what has none."""
    if key not in found.mean[split]:
        return ""
    return f"{figure(key, found.mean[split][key])} ± {figure(key, found.std[split][key])}"


def render(name: str, found: FoldsRecord) -> str:
    """Return the page: what the folds come to, and a way to the page of each."""
    columns, (*rows, last) = table(found)
    judged = headline(found.mean["test"])
    lines: list[list[str]] = [
        [Markup(f'<a href="{escape(row.run)}/report.html">{escape(cells[0])}</a>'), *cells[1:]]
        for row, cells in zip(found.folds, rows, strict=True)
    ]
    body = [
        f"<h1>{escape(name)}</h1>",
        f'<p class="faint">{escape(found.model)} on {escape(found.dataset)}, {len(found.folds)} folds</p>',
        f'<p class="big">{escape(told(found, "test", judged))} {TITLES[judged]}</p>',
        f'<p class="faint">on {found.folds[0].test["images"]} test images that no fold saw</p>',
        page_table(columns, [*lines, last]),
    ]
    return page(name, body)


def _numbers(metrics: Mapping[str, Any]) -> Figures:
    return {key: value for key, value in metrics.items() if isinstance(value, int | float)}


def _columns(rows: Sequence[Figures]) -> dict[str, list[float]]:
    """Return the figures that every fold has; the number of images is none."""
    shared = [key for key in rows[0] if key != "images" and all(key in row for row in rows)]
    return {key: [float(row[key]) for row in rows] for key in shared}
