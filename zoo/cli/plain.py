"""What a listing is made of: parameters that stay text, and plain columns.

Typer converts parameters through pydantic, and tables want rich: each import alone costs more than a listing.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class PlainCommand(TyperCommand):
    """A command with nothing but texts, all optional, and flags."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the command's options, taken as they are typed."""
        return keep_text(super().get_params(ctx))


def keep_text(parameters: list[Any]) -> list[Any]:
    """Return parameters that hand each value on as it was typed."""
    for parameter in parameters:
        parameter.process_value = functools.partial(_as_typed, parameter)
    return parameters


def _as_typed(parameter: Any, ctx: Any, value: Any) -> Any:
    return parameter.callback(ctx, parameter, value) if parameter.callback else value


def print_columns(rows: Sequence[Mapping[str, Any]], what: str) -> None:
    """Print plainly aligned columns, headed by the keys of the first row."""
    if not rows:
        typer.echo(f"no {what} found", err=True)
        return
    names = list(rows[0])
    cells = [["" if row.get(name) is None else str(row[name]) for name in names] for row in rows]
    widths = [max(len(text) for text in column) for column in zip(names, *cells, strict=True)]
    for line in (names, *cells):
        typer.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
