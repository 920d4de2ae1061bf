"""`zoo plugin`: what is installed and in what state, a new package, the contract run against a plugin."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.options import Json
from zoo.cli.plain import PlainCommand, print_columns

plugin_app = typer.Typer(help="List, check and write plugins.", no_args_is_help=True, rich_markup_mode=None)


@plugin_app.command("list", cls=PlainCommand)
def list_cli(
    ctx: typer.Context,
    check: Annotated[bool, typer.Option("--check", help="Import each in a process of its own.")] = False,
    json: Json = False,
) -> None:
    """List every installed plugin and its state; imports nothing unless --check."""
    from zoo.catalogue.condition import conditions

    found = conditions(ctx.obj.catalogue(), check=check)
    if json:
        from zoo.cli.output import print_json

        print_json([condition.to_json() for condition in found])
        return
    rows = [
        {
            "name": c.name or "-",
            "kind": c.kind or "-",
            "distribution": c.distribution,
            "version": c.version,
            "api": c.api or "-",
            "state": c.state,
            "reason": c.reason,
        }
        for c in found
    ]
    print_columns(rows, "plugin")


@plugin_app.command("check")
def check_cli(
    ctx: typer.Context,
    plugin: Annotated[
        str | None,
        typer.Argument(help="A plugin, a distribution or a package's folder [default: all that are not zoo's own]."),
    ] = None,
    option: Annotated[list[str] | None, typer.Option(help="KEY=VALUE for the plugin.")] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds for everything.")] = 900.0,
    json: Json = False,
) -> None:
    """Run the contract against a plugin, each promise in turn, in a process of its own."""
    from zoo.catalogue.options import parse_pairs
    from zoo.cli.output import print_json, print_table
    from zoo.contracts.progress import note
    from zoo.errors import ProofFailed
    from zoo.testing.authoring.check import check_plugin

    options = parse_pairs(option or [], "--option")
    verdicts = check_plugin(
        ctx.obj.catalogue(),
        plugin,
        options=options,
        seconds=timeout,
        hear=lambda v: note(f"{v.plugin}: {v.promise}: {v.verdict}"),
    )
    if json:
        print_json([verdict.to_json() for verdict in verdicts])
    else:
        rows = [(v.plugin, v.promise, v.verdict, f"{v.seconds:.1f}", v.reason) for v in verdicts]
        print_table(["plugin", "promise", "verdict", "seconds", "reason"], rows)
    broken = [verdict for verdict in verdicts if verdict.verdict != "kept"]
    if broken:
        first = broken[0]
        count = f"{len(broken)} of {len(verdicts)} promises do not hold"
        raise ProofFailed(f"{count}; first: {first.promise}: {first.reason}")


class Kind(enum.StrEnum):
    """What can be written."""

    DATASET = "dataset"
    AUGMENTATION = "augmentation"
    BACKBONE = "backbone"
    EXPORTER = "exporter"
    TRACKER = "tracker"


@plugin_app.command("new")
def new_cli(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="What users will type: lower-case letters, digits and dashes.")],
    kind: Annotated[Kind, typer.Option(help="What it will be.")],
    into: Annotated[Path, typer.Option(help="The folder to write the package into.")] = Path(),
    json: Json = False,
) -> None:
    """Write a complete package, zoo-plugin-NAME, that installs and passes its tests as it is."""
    import shlex

    from zoo.cli.output import print_json
    from zoo.testing.authoring.scaffold import new_package

    package = new_package(ctx.obj.catalogue(), name, kind.value, into)
    if json:
        print_json(package.to_json())
        return
    tree = "".join(f"\n  {file}" for file in package.files)
    place = shlex.quote(str(package.folder))
    steps = (f"cd {place}", "pip install -e '.[test]'", "pytest", f"zoo plugin check {name}")
    typer.echo(f"{package.folder}/{tree}\n\nnext:\n  " + "\n  ".join(steps))
