"""What a function of `import zoo` is given, held against its own annotations: what is of another kind is refused."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from zoo.errors import OptionInvalid, first_line

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")

ALIASES = {
    "Named": "Run | Artifact | str | Path | None",
    "Progress": "bool | Callable",
    "UnknownBy": "str",
    "Mapping[str, Any]": "Mapping",
}
TOLD = {
    "str": "a text",
    "Path": "a path",
    "bool": "True or False",
    "int": "a whole number",
    "float": "a number",
    "Mapping": "a dictionary",
    "Callable": "a function of one line",
    "Run": "a run",
    "Artifact": "an artifact",
    "Bundle": "a bundle",
    "Catalogue": "a catalogue",
}
"""Kind -> what it is called; of any other kind nothing is asked."""


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Refuse what is of another kind than the function's parameters say, before it runs.

    Raises:
        OptionInvalid: by the function that comes back.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        signature = inspect.signature(function)
        given = signature.bind(*args, **kwargs).arguments
        for name, value in given.items():
            parameter = signature.parameters[name]
            if parameter.kind is not parameter.VAR_KEYWORD:
                _check(f"{name} of zoo.{function.__name__}", str(parameter.annotation), value)
        return function(*args, **kwargs)

    return call


def _check(what: str, annotation: str, value: object) -> None:
    kinds = _kinds(annotation)
    if not all(kind in TOLD or kind == "None" for kind in kinds):
        return
    if not any(_is(kind, value) for kind in kinds):
        wanted = " or ".join(TOLD[kind] for kind in kinds if kind != "None")
        raise OptionInvalid(f"{what} is {_shown(value)}; give {wanted}")
    if "Path" in kinds and isinstance(value, str) and (not value.strip() or "\0" in value):
        raise OptionInvalid(f"{what} is {value!r}, which names nothing; leave it out, or write . for this folder")
    if isinstance(value, float) and not math.isfinite(value):
        raise OptionInvalid(f"{what} is {value}; give a finite number")


def _kinds(annotation: str) -> list[str]:
    kinds: list[str] = []
    for part in annotation.split(" | "):
        kinds += _kinds(ALIASES[part]) if part in ALIASES else [part]
    return kinds


def _is(kind: str, value: object) -> bool:
    if kind == "None":
        return value is None
    if kind in ("int", "float"):
        numbers: Any = int if kind == "int" else (int, float)
        return isinstance(value, numbers) and not isinstance(value, bool)
    plain: dict[str, Any] = {"str": str, "Path": Path, "bool": bool, "Mapping": Mapping}
    if kind in plain:
        return isinstance(value, plain[kind])
    # By name: the classes themselves would load what they need.
    return callable(value) if kind == "Callable" else kind in {cls.__name__ for cls in type(value).__mro__}


def _shown(value: object) -> str:
    try:
        text = first_line(ValueError(repr(value)))
    except Exception:  # whatever a stranger's repr does
        return f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"a {type(value).__name__}"
