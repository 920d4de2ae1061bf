"""The flags of training: one for each row of the table of options, for every command that trains."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.models import ArgumentInfo

from zoo.cli.completion import names, options
from zoo.cli.options import RUN, SEARCH
from zoo.cli.plain import PlainCommand
from zoo.records.options import training_options
from zoo.records.rows import Group

if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo.records.rows import Option

ORDER = (RUN, SEARCH, *(group.value for group in Group), None)
"""Of the headings in a help; what stands under none comes last."""
GIVEN = "given"
"""The parameter of a command that takes what its flags said: option -> value, those that were not used left out."""


class GroupedCommand(PlainCommand):
    """A command whose help has a heading for each group of options."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the groups in the order in which their first options come."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record:
                group = getattr(parameter, "rich_help_panel", None)
                heading = "Arguments" if parameter.param_type_name == "argument" else group or "Other"
                groups.setdefault(heading, []).append(record)
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def with_training_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Add a flag for each option of training that has no parameter of its own; `given` gets what they say."""
    own = inspect.signature(command, eval_str=True).parameters
    rows = {name: row for name, row in training_options().items() if name not in own}

    @functools.wraps(command)
    def run(**values: Any) -> None:
        said = {name: _meant(row, values.pop(name)) for name, row in rows.items()}
        command(**values, **{GIVEN: {name: value for name, value in said.items() if value is not None}})

    flags = [_parameter(row) for row in rows.values()]
    kept = [parameter for name, parameter in own.items() if name != GIVEN]
    parameters = sorted((each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (*kept, *flags)), key=_place)
    vars(run)["__signature__"] = inspect.Signature(parameters)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _parameter(row: Option) -> inspect.Parameter:
    """Return a row as a parameter that typer reads; every value stays text until the table's types are applied."""
    takes: dict[str, Any] = {"help": row.help, "rich_help_panel": row.told.group.value}
    if row.is_switch:
        return _keyword(row.name, Annotated[bool, typer.Option(row.flag, **takes)], default=False)
    completed: Any = names(row.told.names) if row.told.names else options(row.name) if row.is_table else None
    option = typer.Option(row.flag, metavar=row.metavar, autocompletion=completed, **takes)
    kind: Any = list[str] if row.is_repeated else row.type if row.type in (int, float) else str
    return _keyword(row.name, Annotated[kind | None, option], default=None)


def _place(parameter: inspect.Parameter) -> int:
    """Return where it stands in the help: arguments first, then the groups in their order."""
    (told,) = getattr(parameter.annotation, "__metadata__", (None,))
    group = getattr(told, "rich_help_panel", None)
    return -1 if isinstance(told, ArgumentInfo) else ORDER.index(group)


def _keyword(name: str, annotation: Any, *, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _meant(row: Option, said: Any) -> Any:
    """Return the value of an option, None if nothing was said."""
    from zoo.catalogue.options import parse_pairs

    if row.is_switch:
        return (not row.default) if said else None
    if row.is_table:
        return parse_pairs(said or (), row.flag) or None
    if row.number_or and said is not None and said not in row.number_or and not said.lstrip("+-").isdigit():
        raise typer.BadParameter(f"{said!r} is no number, nor {' or '.join(row.number_or)}", param_hint=row.flag)
    return (",".join(said or ()) or None) if row.is_repeated else said
