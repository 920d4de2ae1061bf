"""What a person reads (tables on stdout, notes on stderr) and what a program reads (one JSON document on stdout)."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from zoo.contracts.progress import console

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console


def print_json(payload: Any) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(payload, indent=2, allow_nan=False) + "\n")


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "", style: str = "bold"
) -> None:
    """Print a table; columns whose values are all numbers are set to the right."""
    from rich import box
    from rich.table import Table

    cells = [[_cell(value) for value in row] for row in rows]
    table = Table(box=box.SIMPLE, pad_edge=False)
    for index, name in enumerate(columns):
        numeric = bool(cells) and all(_is_numeric(row[index]) for row in cells)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        table.add_row(*row)
    if title:
        stdout().print(title, style=style)
    stdout().print(table)


def stdout() -> Console:
    """Return a console for results."""
    return console(sys.stdout)


def percent(share: float) -> str:
    """Write a share of 1 as a percentage."""
    return f"{100 * share:.2f} %"


def megabytes(size: int) -> str:
    """Write bytes as megabytes."""
    return f"{size / 1e6:.2f} MB"


def _cell(value: object) -> str:
    return "" if value is None else str(value)


def _is_numeric(text: str) -> bool:
    number = text.split(" ")[0].removesuffix("x").replace(",", "")
    try:
        float(number)
    except ValueError:
        return text in ("", "-")
    return True
