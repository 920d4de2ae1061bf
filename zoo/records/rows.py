"""What a row of the table of options is made of, and what is read from it: flag, help, choices, range."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import UnionType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from collections.abc import Iterator


REQUIRED: Any = object()
"""The default of an option that has none."""


class Group(StrEnum):
    """Under which heading an option stands."""

    data = "Data"
    model = "Model"
    optimisation = "Optimisation"
    augmentation = "Augmentation"
    machine = "Machine"
    output = "Output"


@dataclass(frozen=True, kw_only=True)
class Range:
    """The bounds of a number: pydantic takes them as `annotated_types`, which need not be loaded to print a help."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    __is_annotated_types_grouped_metadata__: ClassVar[Literal[True]] = True

    def __iter__(self) -> Iterator[object]:
        import annotated_types

        yield annotated_types.Interval(ge=self.ge, gt=self.gt, le=self.le, lt=self.lt)

    def __str__(self) -> str:
        low = "" if self.ge is self.gt is None else f"{self.gt}<" if self.ge is None else f"{self.ge}<="
        high = "" if self.le is self.lt is None else f"<{self.lt}" if self.le is None else f"<={self.le}"
        return f"{low}x{high}" if high else f"x>={self.ge}" if self.ge is not None else f"x>{self.gt}"


@dataclass(frozen=True)
class Told:
    """What is said of an option beside its type."""

    group: Group
    help: str
    """One line, for `--help`."""
    flag: str = ""
    """Empty means `--` and the name, with `--no-` before what is on by default."""
    metavar: str = ""
    names: str = ""
    """What kind of thing it names: a Tab offers those."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option of training, as it is read from a row of `Options`."""

    name: str
    type: Any
    default: Any
    """REQUIRED, if it has none."""
    told: Told
    bounds: str
    """The range of a number, such as 0<=x<1; empty if it has none."""

    @property
    def flag(self) -> str:
        """How it is written on the command line."""
        # A table is given one KEY=VALUE at a time.
        word = self.name.removesuffix("s") if self.is_table else self.name
        return self.told.flag or f"--{'no-' if self.default is True else ''}{word.replace('_', '-')}"

    @property
    def is_table(self) -> bool:
        """Whether it holds KEY=VALUE pairs."""
        return get_origin(self.type) is dict

    @property
    def is_repeated(self) -> bool:
        """Whether its flag may be given several times: KEY=VALUE, and names of things."""
        return self.is_table or (get_origin(self.type) is tuple and bool(self.told.names))

    @property
    def is_switch(self) -> bool:
        """Whether its flag takes no value."""
        return self.type is bool

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that it may be; empty if it may be anything else."""
        return get_args(self.type) if get_origin(self.type) is Literal else ()

    @property
    def number_or(self) -> tuple[str, ...]:
        """The words that may stand in the place of a number; empty if none may."""
        parts = get_args(self.type) if get_origin(self.type) is UnionType or get_origin(self.type) is Union else ()
        return tuple(word for part in parts if get_origin(part) is Literal for word in get_args(part))

    @property
    def metavar(self) -> str:
        """What stands for its value in the help."""
        if self.number_or:
            return "|".join(["N", *self.number_or])
        usual = "KEY=VALUE" if self.is_table else {int: "N", float: "X"}.get(self.type, "TEXT")
        return self.told.metavar or "|".join(filter(None, self.choices)) or usual

    @property
    def help(self) -> str:
        """What it does in one line, with range and default."""
        default = f"default: {self.told_default}" if self.told_default else ""
        facts = "; ".join(filter(None, [self.bounds, default]))
        return f"{self.told.help} [{facts}]" if facts else self.told.help

    @property
    def told_default(self) -> str:
        """The default as one would write it; empty where that means nothing."""
        if self.default in (REQUIRED, "", (), {}) or self.is_switch:
            return ""
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)


def rows_of(table: type) -> dict[str, Option]:
    """Return name -> option, in the order of the table."""
    return {name: _option(table, name, kind) for name, kind in get_type_hints(table, include_extras=True).items()}


def _option(table: type, name: str, annotated: Any) -> Option:
    kind, *metadata = get_args(annotated)
    told = next(value for value in metadata if isinstance(value, Told))
    limits = next((str(value) for value in metadata if isinstance(value, Range)), "")
    return Option(name=name, type=kind, default=getattr(table, name, REQUIRED), told=told, bounds=limits)


def parts_of(value: Any) -> Any:
    """Return the parts of a text with commas; what is none is returned as it is."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
