"""registry.toml: models, recipes, datasets, targets and artifacts as data, layered and checked."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from zoo.contracts.target import Target
from zoo.errors import RegistryInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_BYTES = 1_000_000
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """`[models.NAME]`: a name, the backbone behind it, and how it is best trained."""

    backbone: str
    recipe: str = ""
    pretrained: bool = True
    image_size: int = 0
    """0 means the backbone's own."""
    options: dict[str, Any] = field(default_factory=dict)
    description: str = ""
    install: str = ""
    """The command that brings the backbone's package, for models that are known but not installed."""


@dataclass(frozen=True, kw_only=True)
class DatasetEntry:
    """`[datasets.NAME]`: facts about data that a plugin prepares."""

    plugin: str = ""
    """The entry point, where it is not the name itself."""
    options: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    sha256: str = ""
    size_mb: float = 0.0
    license: str = ""
    description: str = ""
    install: str = ""
    """The command that brings the plugin, for names that are known but not installed."""


@dataclass(frozen=True, kw_only=True)
class PluginEntry:
    """`[augmentations.NAME]`, `[exporters.NAME]`, `[trackers.NAME]`: a name that a package brings."""

    install: str
    """The command that brings it."""
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class ArtifactEntry:
    """`[artifacts.NAME]`: where a published artifact is."""

    url: str
    sha256: str
    description: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Registry:
    """All layers of registry.toml, the later over the earlier, name by name."""

    models: dict[str, ModelEntry] = field(default_factory=dict)
    recipes: dict[str, dict[str, Any]] = field(default_factory=dict)
    datasets: dict[str, DatasetEntry] = field(default_factory=dict)
    targets: dict[str, Target] = field(default_factory=dict)
    artifacts: dict[str, ArtifactEntry] = field(default_factory=dict)
    augmentations: dict[str, PluginEntry] = field(default_factory=dict)
    exporters: dict[str, PluginEntry] = field(default_factory=dict)
    trackers: dict[str, PluginEntry] = field(default_factory=dict)

    def install_line(self, kind: str, name: str) -> str:
        """Return the command that brings a name that is known but not installed; empty if none is known."""
        entry = getattr(self, f"{kind}s", {}).get(name)
        return str(getattr(entry, "install", ""))

    def over(self, lower: Registry) -> Registry:
        """Return both layers in one; a name in this one replaces the same name in `lower`."""
        return Registry(**{f.name: {**getattr(lower, f.name), **getattr(self, f.name)} for f in fields(self)})


def read_registry(extra: Path | None = None) -> Registry:
    """Read the built-in registry, then `./registry.toml`, `$ZOO_REGISTRY` and `extra` over it.

    Raises:
        RegistryInvalid: a file that is missing, not TOML, or says something unknown; with its name and line.
    """
    registry = _read(builtin_path())
    local = Path("registry.toml")
    if local.is_file() and local.resolve() != builtin_path().resolve():
        registry = _read(local).over(registry)
    for path in (os.environ.get("ZOO_REGISTRY"), extra):
        if path:
            registry = _read(Path(path)).over(registry)
    return registry


def builtin_path() -> Path:
    """Where our own registry.toml is: inside the package in a wheel, beside it in an editable install."""
    package = Path(__file__).parent.parent
    inside = package / "registry.toml"
    return inside if inside.is_file() else package.parent / "registry.toml"


def _read(path: Path) -> Registry:
    text = _text(path)
    try:
        raw = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as exc:
        raise RegistryInvalid(
            f"{path}:{_line_of(exc, text)}: not valid TOML: {_without_place(exc)}; mend that line"
        ) from exc
    schema = raw.pop("schema", 1)
    if schema != 1:
        raise RegistryInvalid(f"{path}: schema = {schema!r} is not one this version reads (1); upgrade edgezoo")
    return _registry(raw, path, text)


def _registry(raw: dict[str, Any], path: Path, text: str) -> Registry:
    kinds = {"models": ModelEntry, "datasets": DatasetEntry, "targets": Target, "artifacts": ArtifactEntry}
    kinds |= dict.fromkeys(("augmentations", "exporters", "trackers"), PluginEntry)
    known = [*kinds, "recipes"]
    sections: dict[str, dict[str, Any]] = {}
    for section, table in raw.items():
        where = f"{path}:{_line_with(text, section)}"
        if section not in known:
            raise RegistryInvalid(
                f"{where}: unknown section [{section}]{_hint(section, known)}; known: {', '.join(known)}"
            )
        if not isinstance(table, dict) or not all(isinstance(v, dict) for v in table.values()):
            raise RegistryInvalid(f"{where}: [{section}] must hold tables, written [{section}.NAME]")
        sections[section] = table
        if section in kinds:
            made: dict[str, Any] = {}
            for name, values in table.items():
                place = f"{path}:{_line_with(text, name, section)}: [{section}.{name}]"
                made[name] = _build(kinds[section], {"name": name, **values} if section == "targets" else values, place)
            sections[section] = made
    return Registry(**sections)


def _build(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    hints = get_type_hints(cls)
    for key, value in values.items():
        if key not in hints:
            raise RegistryInvalid(f"{where}: unknown key {key!r}{_hint(key, list(hints))}; known: {', '.join(hints)}")
        wanted = getattr(hints[key], "__origin__", hints[key])
        wanted = list if wanted is tuple else wanted
        allowed = (int, float) if wanted is float else (wanted,)
        if not isinstance(value, allowed) or (isinstance(value, bool) and wanted is not bool):
            raise RegistryInvalid(f"{where}: {key} = {value!r} must be of type {wanted.__name__}")
    required = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]  # type: ignore[arg-type]
    missing = [name for name in required if name not in values]
    if missing:
        raise RegistryInvalid(f"{where}: needs {' and '.join(missing)}")
    try:
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
    except ValueError as exc:
        raise RegistryInvalid(f"{where}: {exc}") from exc


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RegistryInvalid(
                f"{path}: larger than {MAX_BYTES // 1_000_000} MB; it is a catalogue, keep data elsewhere"
            )
        return path.read_text(encoding="utf-8-sig")
    except OSError as exc:
        raise RegistryInvalid(f"{path}: cannot be read: {exc.strerror}; check --registry and ZOO_REGISTRY") from exc
    except UnicodeDecodeError as exc:
        raise RegistryInvalid(f"{path}: is not UTF-8 text; save it as UTF-8") from exc


def _line_of(exc: Exception, text: str) -> int:
    found = re.search(r"at line (\d+)", str(exc))
    return int(found[1]) if found else len(text.splitlines()) or 1


def _without_place(exc: Exception) -> str:
    return re.sub(r" \(at [^)]*\)$", "", str(exc))


def _line_with(text: str, name: str, section: str = "") -> int:
    """Find the line of a table's header; the first line where it is written in another way."""
    dotted = rf"{re.escape(section)}\s*\.\s*[\"']?{re.escape(name)}[\"']?" if section else re.escape(name)
    header = re.compile(rf"^\s*\[+\s*{dotted}\b")
    return next((number for number, line in enumerate(text.splitlines(), 1) if header.match(line)), 1)


def _hint(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
