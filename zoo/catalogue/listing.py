"""`zoo.models`, `zoo.datasets` and the like: what there is, a row each; nothing behind a name is imported."""

from __future__ import annotations

import fnmatch
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from zoo.catalogue import opened
from zoo.contracts.words import checked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from zoo.catalogue import Catalogue


class Row(Protocol):
    """What has a name and can be told as plain values."""

    @property
    def name(self) -> str: ...
    def to_json(self) -> dict[str, Any]: ...


R = TypeVar("R", bound=Row)


class Listing(list[R]):
    """Rows, which a notebook shows as a table."""

    def _repr_html_(self) -> str:
        from zoo.evaluation.page import fragment, table

        rows = [row.to_json() for row in self]
        columns = [*dict.fromkeys(key for row in rows for key in row)]
        cells = [["" if row.get(key) is None else row[key] for key in columns] for row in rows]
        return fragment([table(columns, cells, kind="listing") or '<p class="faint">none</p>'])


@dataclass(frozen=True, kw_only=True)
class ModelRow:
    """A model, by a name that can be trained."""

    name: str
    source: str
    """Who has it: the registry, a package, or a family such as timm."""
    backbone: str = ""
    """What an entry of the registry stands for; empty elsewhere, as is what follows."""
    recipe: str | None = None
    """Of its own."""
    description: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain values; those of the registry only of what stands there."""
        return asdict(self) if self.source == "registry" else {"name": self.name, "source": self.source}


@dataclass(frozen=True, kw_only=True)
class PluginRow:
    """An augmentation, exporter or tracker."""

    name: str
    distribution: str
    """The package that brings it, or what to run to have it."""
    version: str

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class DatasetRow:
    """A dataset."""

    name: str
    distribution: str
    """The package that brings it, or what to run to have it."""
    description: str

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class RecipeRow:
    """A recipe of training options."""

    name: str
    description: str

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class TargetRow:
    """A device that artifacts are made for."""

    name: str
    arch: str
    threads: int
    precisions: str
    """What it can run, with commas between; "any" if it can run all."""
    description: str

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


@checked
def models(pattern: str = "*", *, catalogue: Catalogue | str | Path | None = None) -> Listing[ModelRow]:
    """Return the models whose names are like `pattern`, such as "mobilenetv4*": ours first, then every family's."""
    return _like(pattern, _models(opened(catalogue)))


@checked
def datasets(pattern: str = "*", *, catalogue: Catalogue | str | Path | None = None) -> Listing[DatasetRow]:
    """Return the datasets that have a name; a folder of images needs none."""
    return _like(pattern, _datasets(opened(catalogue)))


@checked
def augmentations(pattern: str = "*", *, catalogue: Catalogue | str | Path | None = None) -> Listing[PluginRow]:
    """Return the augmentations."""
    return _like(pattern, _plugins(opened(catalogue), "augmentation"))


@checked
def exporters(pattern: str = "*", *, catalogue: Catalogue | str | Path | None = None) -> Listing[PluginRow]:
    """Return the formats that `export` can write."""
    return _like(pattern, _plugins(opened(catalogue), "exporter"))


@checked
def trackers(pattern: str = "*", *, catalogue: Catalogue | str | Path | None = None) -> Listing[PluginRow]:
    """Return who can hear of a run."""
    return _like(pattern, _plugins(opened(catalogue), "tracker"))


@checked
def recipes(pattern: str = "*", *, catalogue: Catalogue | str | Path | None = None) -> Listing[RecipeRow]:
    """Return the recipes of registry.toml."""
    entries = opened(catalogue).registry.recipes.items()
    return _like(pattern, [RecipeRow(name=name, description=values.get("description", "")) for name, values in entries])


@checked
def targets(pattern: str = "*", *, catalogue: Catalogue | str | Path | None = None) -> Listing[TargetRow]:
    """Return the devices that `export` and `bundle` know."""
    return _like(pattern, _targets(opened(catalogue)))


KINDS: dict[str, Callable[..., Listing[Any]]] = {
    "models": models,
    "datasets": datasets,
    "augmentations": augmentations,
    "exporters": exporters,
    "trackers": trackers,
    "recipes": recipes,
    "targets": targets,
}
"""What stands in entry points and registry.toml, by what it is called."""


def _like(pattern: str, rows: Iterable[R]) -> Listing[R]:
    return Listing(row for row in rows if fnmatch.fnmatch(row.name, pattern))


def _plugins(catalogue: Catalogue, kind: str) -> list[PluginRow]:
    plugins = catalogue.of_kind(kind)
    rows = [PluginRow(name=p.name, distribution=p.distribution, version=p.version) for p in plugins]
    known = {p.name for p in plugins}
    entries = getattr(catalogue.registry, f"{kind}s", {})
    return rows + [
        PluginRow(name=name, distribution=f"not installed: {entry.install}", version="")
        for name, entry in entries.items()
        if name not in known
    ]


def _models(catalogue: Catalogue) -> list[ModelRow]:
    named = [
        ModelRow(name=name, source="registry", backbone=m.backbone, recipe=m.recipe, description=m.description)
        for name, m in catalogue.registry.models.items()
    ]
    plugins = [ModelRow(name=p.name, source=p.distribution) for p in catalogue.of_kind("backbone")]
    known = set(catalogue.registry.models)
    families = [
        ModelRow(name=name, source=plugin.name) for plugin, name in catalogue.family_members() if name not in known
    ]
    return [*named, *plugins, *families]


def _datasets(catalogue: Catalogue) -> list[DatasetRow]:
    entries = catalogue.registry.datasets
    plugins = {p.name: p for p in catalogue.of_kind("dataset")}
    rows = []
    for name in sorted({*entries, *plugins}):
        entry, plugin = entries.get(name), plugins.get(name)
        state = plugin.distribution if plugin else f"not installed: {entry.install if entry else ''}"
        if entry and entry.plugin and (not entry.install or entry.plugin.rpartition("/")[2] in plugins):
            state = f"by {entry.plugin}"
        rows.append(DatasetRow(name=name, distribution=state, description=entry.description if entry else ""))
    return rows


def _targets(catalogue: Catalogue) -> list[TargetRow]:
    found = {name: catalogue.target(name) for name in catalogue.registry.targets}
    return [
        TargetRow(
            name=name,
            arch=target.arch,
            threads=target.threads,
            precisions=", ".join(target.precisions) or "any",
            description=target.description,
        )
        for name, target in found.items()
    ]
