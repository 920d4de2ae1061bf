"""The names of timm's architectures, read from its source without importing it: a hundredth of a second."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import re
from dataclasses import dataclass, field
from pathlib import Path

# In bytes, with a newline for `^`: the search for what a pattern begins with is three times as fast so.
REGISTERED = re.compile(rb"\n@register_model[ \t]*(?:#.*)?\n(?:[@#].*\n|\n)*def (\w+)")
RENAMED = re.compile(rb"\nregister_model_deprecations\(__name__, (\{.*?\n\})\)", re.DOTALL)
IMPORTED = re.compile(r"^from \.(\w+) import \*", re.MULTILINE)


@dataclass(frozen=True)
class TimmNames:
    """What timm offers."""

    architectures: list[str] = field(default_factory=list)
    """In the order of `timm.list_models()`."""
    renamed: dict[str, str | None] = field(default_factory=dict)
    """Old names with today's, perhaps with a tag; None for those that are gone."""


def read_names() -> TimmNames:
    """Return the installed timm's names, none if there is no timm."""
    spec = importlib.util.find_spec("timm")
    if spec is None or not spec.submodule_search_locations:
        return TimmNames()
    return scan(Path(spec.submodule_search_locations[0]) / "models")


def scan(models: Path) -> TimmNames:
    """Read the modules that timm/models/__init__.py imports."""
    architectures: set[str] = set()
    renamed: dict[str, str | None] = {}
    for module in IMPORTED.findall((models / "__init__.py").read_text("utf-8")):
        source = b"\n" + (models / f"{module}.py").read_bytes().replace(b"\r\n", b"\n")
        architectures.update(name.decode() for name in REGISTERED.findall(source))
        for table in RENAMED.findall(source):
            with contextlib.suppress(ValueError, SyntaxError):  # no literal: old names are a courtesy
                renamed |= ast.literal_eval(table.decode())
    return TimmNames(sorted(architectures - renamed.keys(), key=_natural), renamed)


def _natural(name: str) -> list[int | str]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name.lower())]
