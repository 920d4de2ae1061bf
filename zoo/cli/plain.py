"""What a quick answer is made of: parameters read without pydantic, and plain columns.

Typer converts parameters through pydantic, and tables want rich: each import alone costs more than a listing.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CONVERTERS = {str: str, Path: Path, int: int, float: float}


class PlainCommand(TyperCommand):
    """A command that leaves to pydantic only what Python's own types cannot take."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the command's parameters, each converted as cheaply as it allows."""
        return plainly(super().get_params(ctx))


def plainly(parameters: list[Any]) -> list[Any]:
    """Return parameters that convert texts, paths and numbers by themselves."""
    for parameter in parameters:
        if not isinstance(parameter.process_value, functools.partial):
            parameter.process_value = functools.partial(_value, parameter, parameter.process_value)
    return parameters


def _value(parameter: Any, by_typer: Any, ctx: Any, value: Any) -> Any:
    """Return what a command gets for what was typed; whatever is wrong or unusual is left to typer, which tells why."""
    kind: Any = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
    missing = value is None or value == ()
    if missing and parameter.required:
        return by_typer(ctx, value)
    if missing or value == parameter.default or (isinstance(kind, type) and isinstance(value, kind)):
        return parameter.callback(ctx, parameter, value) if parameter.callback else value
    several, kind = (get_origin(kind) is list, get_args(kind)[0]) if get_args(kind) else (False, kind)
    convert, info = CONVERTERS.get(kind), getattr(parameter.type_descriptor, "parameter_info", None)
    if convert is None or getattr(info, "min", None) is not None or getattr(info, "max", None) is not None:
        return by_typer(ctx, value)
    try:
        return [convert(each) for each in value] if several else convert(value)
    except (TypeError, ValueError):
        return by_typer(ctx, value)


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
