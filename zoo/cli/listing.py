"""`zoo list`: what there is, from entry points and registry.toml; nothing behind a name is imported."""

from __future__ import annotations

import difflib
import enum
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.options import Json
from zoo.cli.plain import print_columns

if TYPE_CHECKING:
    from zoo.catalogue import Catalogue

Row = dict[str, Any]


class Kind(enum.StrEnum):
    """What can be listed."""

    models = "models"
    datasets = "datasets"
    augmentations = "augmentations"
    exporters = "exporters"
    trackers = "trackers"
    recipes = "recipes"
    targets = "targets"
    runs = "runs"


def list_cli(
    ctx: typer.Context,
    kind: Annotated[
        str, typer.Argument(help=f"One of {', '.join(Kind)}.", autocompletion=lambda: list(Kind), show_default=False)
    ] = "",
    pattern: Annotated[str, typer.Argument(help="Only names like this, for example 'resnet*'.")] = "*",
    runs: Annotated[str | None, typer.Option(help="The folder of all runs [default: $ZOO_RUNS, else ./runs].")] = None,
    json: Json = False,
) -> None:
    """List models, datasets, augmentations, exporters, trackers, recipes, targets or runs."""
    if kind not in list(Kind):
        close = difflib.get_close_matches(kind, Kind, n=1)
        hint = f"did you mean {close[0]}?" if close else f"write one of {', '.join(Kind)}"
        raise typer.BadParameter(f"{kind!r} cannot be listed; {hint}", param_hint="KIND")
    rows = _runs(runs, pattern) if kind == Kind.runs else _rows(ctx.obj.catalogue(), kind, pattern)
    if json:
        from zoo.cli.output import print_json

        print_json(rows)
    elif kind == Kind.models:
        _print_models(rows, everything=pattern != "*" or not sys.stdout.isatty())
    else:
        print_columns(rows, kind)


def _rows(catalogue: Catalogue, kind: str, pattern: str) -> list[Row]:
    from zoo.catalogue.listing import KINDS

    return [row.to_json() for row in KINDS[kind](pattern, catalogue=catalogue)]


def _runs(folder: str | None, pattern: str) -> list[Row]:
    from zoo.records.listing import row_of
    from zoo.records.listing import runs as list_runs

    return [row_of(run).to_json() for run in list_runs(folder, pattern)]


def _print_models(rows: list[Row], *, everything: bool) -> None:
    named = [row for row in rows if row["source"] == "registry"]
    others = [row for row in rows if row["source"] != "registry"]
    print_columns([{k: v for k, v in row.items() if k != "source"} for row in named], Kind.models)
    if everything:
        for row in others:
            typer.echo(row["name"])
    else:
        typer.echo(f"and {len(others)} architectures by name, for example: zoo list models 'convnext*'")
