"""`zoo plugin`: what is installed and in what state, a new package, the contract run against a plugin."""

from __future__ import annotations

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
    from zoo.authoring.condition import conditions

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
