"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.completion import names

RUN, SEARCH = "Run", "Search"
"""Headings in the help of commands that train."""

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Runs = Annotated[
    Path | None,
    typer.Option(
        "--runs", metavar="DIR", help="The folder of all runs [default: $ZOO_RUNS, else ./runs].", rich_help_panel=RUN
    ),
]
Recipe = Annotated[
    str | None,
    typer.Option(
        help="A recipe of registry.toml, or a .toml file of one.",
        autocompletion=names("recipe"),
        metavar="NAME|FILE",
        rich_help_panel=RUN,
    ),
]
Config = Annotated[
    Path | None, typer.Option(help="A TOML file of training options.", metavar="FILE", rich_help_panel=RUN)
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any training option, by its name.", metavar="KEY=VALUE", rich_help_panel=RUN),
]
