"""`zoo list`: what there is, from entry points and registry.toml; nothing behind a name is imported."""

from __future__ import annotations

import difflib
import enum
import fnmatch
import sys
from pathlib import Path
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
    kind, root = Kind(kind), Path(runs) if runs else None
    rows = [row for row in _rows(ctx.obj.catalogue(), kind, root) if fnmatch.fnmatch(row["name"], pattern)]
    if json:
        from zoo.cli.output import print_json

        print_json(rows)
    elif kind is Kind.models:
        _print_models(rows, everything=pattern != "*" or not sys.stdout.isatty())
    else:
        print_columns(rows, kind)


def _rows(catalogue: Catalogue, kind: Kind, runs: Path | None) -> list[Row]:
    registry = catalogue.registry
    if kind is Kind.models:
        return _models(catalogue)
    if kind is Kind.datasets:
        return _datasets(catalogue)
    if kind is Kind.recipes:
        return [
            {"name": name, "description": values.get("description", "")} for name, values in registry.recipes.items()
        ]
    if kind is Kind.targets:
        return [
            {
                "name": name,
                "arch": t.arch,
                "threads": t.threads,
                "precisions": ", ".join(t.precisions) or "any",
                "description": t.description,
            }
            for name, t in ((name, catalogue.target(name)) for name in registry.targets)
        ]
    if kind is Kind.runs:
        return _runs(runs)
    return _plugins(catalogue, kind)


def _plugins(catalogue: Catalogue, kind: Kind) -> list[Row]:
    plugins = catalogue.of_kind(kind.removesuffix("s"))
    rows = [{"name": p.name, "distribution": p.distribution, "version": p.version} for p in plugins]
    known = {p.name for p in plugins}
    entries = getattr(catalogue.registry, kind, {})
    return rows + [
        {"name": name, "distribution": f"not installed: {entry.install}", "version": ""}
        for name, entry in entries.items()
        if name not in known
    ]


def _models(catalogue: Catalogue) -> list[Row]:
    named = [
        {"name": name, "source": "registry", "backbone": m.backbone, "recipe": m.recipe, "description": m.description}
        for name, m in catalogue.registry.models.items()
    ]
    plugins = [{"name": p.name, "source": p.distribution} for p in catalogue.of_kind("backbone")]
    known = set(catalogue.registry.models)
    families = [
        {"name": name, "source": plugin.name} for plugin, name in catalogue.family_members() if name not in known
    ]
    return [*named, *plugins, *families]


def _datasets(catalogue: Catalogue) -> list[Row]:
    facts = catalogue.registry.datasets
    plugins = {p.name: p for p in catalogue.of_kind("dataset")}
    rows = []
    for name in sorted({*facts, *plugins}):
        entry, plugin = facts.get(name), plugins.get(name)
        state = plugin.distribution if plugin else f"not installed: {entry.install if entry else ''}"
        if entry and entry.plugin and (not entry.install or entry.plugin.rpartition("/")[2] in plugins):
            state = f"by {entry.plugin}"
        rows.append({"name": name, "distribution": state, "description": entry.description if entry else ""})
    return rows


def _runs(root: Path | None) -> list[Row]:
    from zoo.disk.home import runs_root
    from zoo.records.find import list_runs

    rows: list[Row] = []
    for run in list_runs(runs_root(root)):
        record = run.record()
        test = record.metrics["test"]
        figures = {f"test_{key}": round(test[key], 4) if key in test else None for key in ("top1", "map")}
        about = {"name": run.name, "model": record.model, "dataset": record.dataset}
        rows.append({**about, **figures, "created": record.created[:19]})
    return rows


def _print_models(rows: list[Row], *, everything: bool) -> None:
    named = [row for row in rows if row["source"] == "registry"]
    others = [row for row in rows if row["source"] != "registry"]
    print_columns([{k: v for k, v in row.items() if k != "source"} for row in named], Kind.models)
    if everything:
        for row in others:
            typer.echo(row["name"])
    else:
        typer.echo(f"and {len(others)} architectures by name, for example: zoo list models 'convnext*'")
