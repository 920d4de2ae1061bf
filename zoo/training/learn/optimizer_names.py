"""The names of timm's optimizers, read from its source: a misspelt one is told before anything is imported."""

from __future__ import annotations

import difflib
import importlib.util
import re
from pathlib import Path

QUOTED = re.compile(r"""['"](\w+)['"]""")
NAMED = re.compile(r"""^\s*name=['"](\w+)['"]""", re.MULTILINE)
"""How timm's source names an optimizer, in timm/optim/_optim_factory.py; aliases are quoted elsewhere in it."""


def optimizer_names() -> tuple[set[str], list[str]]:
    """Return every word that may be an optimizer of the installed timm, and those that certainly are; none without."""
    spec = importlib.util.find_spec("timm")
    folder = Path(*spec.submodule_search_locations) if spec and spec.submodule_search_locations else Path()
    source = folder / "optim/_optim_factory.py"
    text = source.read_text("utf-8") if source.is_file() else ""
    return set(QUOTED.findall(text)), sorted(set(NAMED.findall(text)))


def unknown_optimizer(name: str, known: list[str]) -> str:
    """Return what is said of an optimizer that timm does not have."""
    close = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else "common ones are adamw, sgd, adam, rmsprop and lion"
    return f"timm knows no optimizer {name!r}; {hint}"
