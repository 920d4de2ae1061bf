"""What exists: the registry and every entry point. Listing imports nothing; loading imports one."""

from __future__ import annotations

import difflib
import importlib.metadata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.errors import DuplicateName, PluginBroken, UnknownName, first_line
from zoo.registry import ModelEntry, Registry, read_registry
from zoo.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

GROUPS = {
    "dataset": "zoo.datasets",
    "augmentation": "zoo.augmentations",
    "backbone": "zoo.backbones",
    "backbone family": "zoo.backbone_families",
    "exporter": "zoo.exporters",
    "tracker": "zoo.trackers",
}


@dataclass(frozen=True)
class Plugin:
    """One entry point, not imported."""

    kind: str
    name: str
    distribution: str
    version: str
    entry_point: importlib.metadata.EntryPoint

    @property
    def owner(self) -> str:
        """Distribution and version, as an error names them."""
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True)
class BackboneChoice:
    """A model name, resolved: the registry's words for it, and the plugin that makes it."""

    name: str
    entry: ModelEntry
    plugin: Plugin
    member: str = ""
    """The name inside a family; empty for a plugin that is one backbone."""


@dataclass(frozen=True)
class Catalogue:
    """The registry and the installed plugins, read once and passed along."""

    registry: Registry
    plugins: tuple[Plugin, ...]
    warnings: tuple[str, ...] = ()
    """Distributions whose entry points could not be read, each in one line."""

    @classmethod
    def read(cls, registry: Path | None = None) -> Catalogue:
        """Read every layer of registry.toml and the entry points of every installed distribution."""
        plugins, warnings = _installed_plugins()
        return cls(read_registry(registry), plugins, warnings)

    def of_kind(self, kind: str) -> list[Plugin]:
        """Return the plugins of a kind, by name."""
        return sorted((p for p in self.plugins if p.kind == kind), key=lambda p: (p.name, p.distribution))

    def find(self, kind: str, name: str) -> Plugin:
        """Return the one plugin of that name; `DISTRIBUTION/NAME` picks among several.

        Raises:
            UnknownName: none has it; close matches are named.
            DuplicateName: several distributions have it.
        """
        plugins = self.of_kind(kind)
        owner, _, short = name.rpartition("/")
        matches = [p for p in plugins if p.name == short and owner in ("", p.distribution)]
        if not matches:
            raise UnknownName(_unknown(kind, name, [p.name for p in plugins]))
        if len(matches) > 1:
            owners = " and ".join(p.owner for p in matches)
            raise DuplicateName(
                f"{kind} {name!r} comes from {owners}; write {matches[0].distribution}/{name} or uninstall one"
            )
        return matches[0]

    def load(self, plugin: Plugin) -> Any:
        """Import one plugin.

        Raises:
            PluginBroken: its module raised, or tried to exit; nothing else is affected.
        """
        try:
            return plugin.entry_point.load()
        except KeyboardInterrupt:
            raise
        except BaseException as exc:
            reason = f"{type(exc).__name__}: {first_line(exc)}"
            raise PluginBroken(
                f"{plugin.kind} {plugin.name!r} from {plugin.owner} cannot be imported: {reason}; "
                "mend or uninstall that package"
            ) from exc

    def get(self, kind: str, name: str) -> Any:
        """Find and load in one step."""
        return self.load(self.find(kind, name))

    def target(self, name: str) -> Target:
        """Return a target's facts; "host" always exists."""
        if name in self.registry.targets:
            return self.registry.targets[name]
        if name == "host":
            return Target()
        raise UnknownName(_unknown("target", name, list(self.registry.targets)))

    def backbone(self, name: str) -> BackboneChoice:
        """Resolve a model name: registry models, then backbone entry points, then families such as timm.

        Raises:
            UnknownName, DuplicateName, PluginBroken: as for `find` and `load`.
        """
        entry = self.registry.models.get(name)
        plugin, member = self._backbone_plugin(entry.backbone if entry else name)
        return BackboneChoice(name, entry or ModelEntry(backbone=name), plugin, member)

    def model_names(self) -> list[str]:
        """Return every name that `backbone` resolves, without importing a library behind it."""
        return [*self.registry.models, *(p.name for p in self.of_kind("backbone")), *self.family_names()]

    def family_names(self) -> list[str]:
        """Return the members of every family."""
        return [name for plugin in self.of_kind("backbone family") for name in self.load(plugin)().names()]

    def _backbone_plugin(self, name: str) -> tuple[Plugin, str]:
        owner, _, short = name.rpartition("/")
        if any(p.name == short and owner in ("", p.distribution) for p in self.of_kind("backbone")):
            return self.find("backbone", name), ""
        families = self.of_kind("backbone family")
        family, _, member = name.partition("/")
        if member and any(p.name == family for p in families):
            families = [self.find("backbone family", family)]
        else:
            member = name
        owners = [p for p in families if self.load(p)().knows(member)]
        if len(owners) > 1:
            raise DuplicateName(
                f"model {name!r} is in {' and '.join(p.name for p in owners)}; write {owners[0].name}/{name}"
            )
        if not owners:
            raise UnknownName(_unknown("model", name, self.model_names()))
        return owners[0], member


def _unknown(kind: str, name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"`zoo list {kind}s` shows what there is"
    return f"no {kind} is named {name!r}; {hint}"


def _installed_plugins() -> tuple[tuple[Plugin, ...], tuple[str, ...]]:
    """Read distributions one by one: a malformed entry_points.txt makes `entry_points()` fail for everybody."""
    kinds = {group: kind for kind, group in GROUPS.items()}
    plugins: list[Plugin] = []
    warnings: list[str] = []
    seen: set[str] = set()
    for distribution in importlib.metadata.distributions():
        text = distribution.read_text("entry_points.txt")
        if not text or "zoo." not in text or distribution.name in seen:
            continue
        seen.add(distribution.name)
        try:
            entry_points: Iterable[importlib.metadata.EntryPoint] = list(distribution.entry_points)
        except Exception as exc:
            warnings.append(
                f"{distribution.name}: its entry_points.txt cannot be read ({exc}); its plugins are left out"
            )
            continue
        plugins += [
            Plugin(kinds[ep.group], ep.name, distribution.name, distribution.version, ep)
            for ep in entry_points
            if ep.group in kinds
        ]
    return tuple(plugins), tuple(warnings)
