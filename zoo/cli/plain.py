"""Parameters that stay text: Typer converts through pydantic, whose import alone costs more than a listing."""

from __future__ import annotations

import functools
from typing import Any

from typer.core import TyperCommand


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
