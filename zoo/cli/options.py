"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Runs = Annotated[Path | None, typer.Option("--runs", help="The folder of all runs [default: $ZOO_RUNS, else ./runs].")]
