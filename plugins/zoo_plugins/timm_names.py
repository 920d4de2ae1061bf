"""The names of timm's architectures, read from its source without importing it."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import json
import os
import re
import tempfile
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

from zoo.home import zoo_home

REGISTERED = re.compile(r"^@register_model[ \t]*(?:#.*)?\n(?:[@#].*\n|\n)*def (\w+)", re.MULTILINE)
RENAMED = re.compile(r"^register_model_deprecations\(__name__, (\{.*?^\})\)", re.MULTILINE | re.DOTALL)
IMPORTED = re.compile(r"^from \.(\w+) import \*", re.MULTILINE)
VERSION = re.compile(r"^__version__ *= *['\"]([\w.+-]+)['\"]", re.MULTILINE)


@dataclass(frozen=True)
class TimmNames:
    """What timm offers."""

    architectures: list[str] = field(default_factory=list)
    """In the order of `timm.list_models()`."""
    renamed: dict[str, str | None] = field(default_factory=dict)
    """Old names with today's, perhaps with a tag; None for those that are gone."""


def read_names() -> TimmNames:
    """Return the installed timm's names, none if there is no timm; a cache out of order is no obstacle."""
    spec = importlib.util.find_spec("timm")
    if spec is None or not spec.submodule_search_locations:
        return TimmNames()
    package = Path(spec.submodule_search_locations[0])
    fingerprint = _fingerprint(package / "models")
    cache = _cache_file(package)
    names = _read_cache(cache, fingerprint)
    if names is None:
        names = scan(package / "models")
        _write_cache(cache, fingerprint, names)
    return names


def scan(models: Path) -> TimmNames:
    """Read the modules that timm/models/__init__.py imports."""
    architectures: set[str] = set()
    renamed: dict[str, str | None] = {}
    for module in IMPORTED.findall((models / "__init__.py").read_text("utf-8")):
        source = (models / f"{module}.py").read_text("utf-8")
        architectures.update(REGISTERED.findall(source))
        for table in RENAMED.findall(source):
            with contextlib.suppress(ValueError, SyntaxError):  # no literal: old names are a courtesy
                renamed |= ast.literal_eval(table)
    return TimmNames(sorted(architectures - renamed.keys(), key=_natural), renamed)


def _natural(name: str) -> list[int | str]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name.lower())]


def _fingerprint(models: Path) -> str:
    """Tell one state of the folder from another, so that a timm that somebody is editing is read again."""
    files = sorted((e.name, e.stat().st_size, e.stat().st_mtime_ns) for e in os.scandir(models) if e.is_file())
    return f"{models} {zlib.crc32(repr(files).encode()):08x}"


def _cache_file(package: Path) -> Path:
    version = VERSION.search((package / "version.py").read_text("utf-8"))
    return zoo_home() / f"timm-{version[1] if version else 'unknown'}.json"


def _read_cache(cache: Path, fingerprint: str) -> TimmNames | None:
    try:
        found = json.loads(cache.read_text("utf-8"))
        names = TimmNames(found["architectures"], found["renamed"])
        whole = found["fingerprint"] == fingerprint and all(isinstance(name, str) for name in names.architectures)
        return names if whole and isinstance(names.renamed, dict) else None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _write_cache(cache: Path, fingerprint: str, names: TimmNames) -> None:
    with contextlib.suppress(OSError):
        cache.parent.mkdir(parents=True, exist_ok=True)
        descriptor, part = tempfile.mkstemp(dir=cache.parent, prefix=f".{cache.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump({"fingerprint": fingerprint, **asdict(names)}, file)
            Path(part).replace(cache)
        finally:
            Path(part).unlink(missing_ok=True)
