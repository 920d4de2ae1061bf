"""What exists: the registry and every entry point. Listing imports nothing; loading imports one."""

from __future__ import annotations

import contextlib
import difflib
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from zoo.catalogue.calling import blaming, guest
from zoo.catalogue.installed import OURS, Installed, Plugin, Unreadable, api_fault, installed_plugins
from zoo.catalogue.isolation.contain import contained
from zoo.catalogue.registry import ModelEntry, Registry, read_registry
from zoo.contracts.target import Target
from zoo.errors import ContractBroken, DuplicateName, PluginBroken, UnknownName, first_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from zoo.contracts.plugins import BackboneFamily


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
    unreadable: tuple[Unreadable, ...] = ()
    preferred: Mapping[str, str] = field(default_factory=dict)
    """Kind -> the distribution that is meant where several have a name."""

    @classmethod
    def read(cls, registry: Path | None = None, installed: Installed | None = None) -> Catalogue:
        """Read every layer of registry.toml, and the entry points of every distribution unless they are given."""
        return cls(read_registry(registry), *(installed or installed_plugins()))

    def preferring(self, owners: Mapping[str, str]) -> Catalogue:
        """Return a catalogue in which a name means what it meant when a run or an artifact was made."""
        return replace(self, preferred=owners)

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
        preferred = [p for p in matches if p.distribution == self.preferred.get(kind)]
        matches = preferred if len(matches) > 1 and preferred else matches
        if not matches:
            raise UnknownName(self._unknown(kind, name, [p.name for p in plugins]))
        if len(matches) > 1:
            raise DuplicateName(_claimed(kind, name, matches))
        return matches[0]

    def load(self, plugin: Plugin) -> Any:
        """Import one plugin; a stranger's is first tried in a process of its own, once for each of its versions.

        Raises:
            PluginBroken: its module raises, exits, hangs, crashes, or is for another API; nothing else is affected.
        """
        module = plugin.entry_point.module
        if plugin.distribution != OURS and module not in sys.modules:
            _try_apart(plugin)
        try:
            with contained():
                loaded = plugin.entry_point.load()
        except KeyboardInterrupt:
            raise
        except BaseException as exc:
            raise PluginBroken(_broken(plugin, f"cannot be imported: {type(exc).__name__}: {first_line(exc)}")) from exc
        fault = api_fault(getattr(sys.modules.get(module), "ZOO_API", None))
        if fault:
            raise PluginBroken(f"{plugin.kind} {plugin.name!r} from {plugin.owner} {fault}")
        return loaded

    def get(self, kind: str, name: str) -> Any:
        """Find and load in one step."""
        return self.load(self.find(kind, name))

    def target(self, name: str) -> Target:
        """Return a target's facts, of a short name those that it stands for; "host" always exists."""
        if name in self.registry.targets:
            found = self.registry.targets[name]
            return self.registry.targets.get(found.name, found)
        if name == "host":
            return Target()
        raise UnknownName(self._unknown("target", name, list(self.registry.targets)))

    def backbone(self, name: str) -> BackboneChoice:
        """Resolve a model name: registry models, then backbone entry points, then families such as timm.

        Raises:
            UnknownName, DuplicateName, PluginBroken: as for `find` and `load`.
        """
        entry = self.registry.models.get(name)
        try:
            plugin, member = self._backbone_plugin(entry.backbone if entry else name)
        except UnknownName:
            if entry and entry.install:
                raise UnknownName(self._unknown("model", name, [])) from None
            raise
        return BackboneChoice(name, entry or ModelEntry(backbone=name), plugin, member)

    def model_names(self) -> list[str]:
        """Return every name that `backbone` resolves, without importing a library behind it."""
        return [*self.registry.models, *(p.name for p in self.of_kind("backbone")), *self.family_names()]

    def family_names(self) -> list[str]:
        """Return the members of every family that can be used."""
        return [name for _, name in self.family_members()]

    def family_members(self) -> list[tuple[Plugin, str]]:
        """Return family and name of every member; a broken family costs only its own."""
        members: list[tuple[Plugin, str]] = []
        for plugin, family in self._families():
            with contextlib.suppress(PluginBroken):
                members += [(plugin, name) for name in _names(plugin, family)]
        return members

    def families_with(self, name: str) -> list[Plugin]:
        """Return the families that know a model by this name; a broken one knows none."""
        found = []
        for plugin, family in self._families():
            with contextlib.suppress(PluginBroken):
                found += [plugin] if family.knows(name) else []
        return found

    def family(self, plugin: Plugin) -> BackboneFamily:
        """Import a family and make it.

        Raises:
            PluginBroken, ContractBroken: it cannot be imported or made, or is no family.
        """
        make = self.load(plugin)
        with blaming(plugin):
            family: BackboneFamily = make()
        return guest(plugin, family, "names", "knows", "create")

    def _families(self) -> Iterator[tuple[Plugin, BackboneFamily]]:
        for plugin in self.of_kind("backbone family"):
            if plugin.distribution == OURS or not _failed_before(plugin):
                try:
                    family = self.family(plugin)
                except (PluginBroken, ContractBroken):
                    continue
                yield plugin, family

    def _backbone_plugin(self, name: str) -> tuple[Plugin, str]:
        owner, _, short = name.rpartition("/")
        own = [p for p in self.of_kind("backbone") if p.name == short and owner in ("", p.distribution)]
        if own and owner:
            return self.find("backbone", name), ""
        family, _, member = name.partition("/")
        if member and any(p.name == family for p in self.of_kind("backbone family")):
            plugin = self.find("backbone family", family)
            if self.family(plugin).knows(member):
                return plugin, member
        owners = [(p, "") for p in own] + [(p, name) for p in self.families_with(name)]
        preferred = [pair for pair in owners if pair[0].distribution == self.preferred.get("backbone")]
        owners = preferred if len(owners) > 1 and preferred else owners
        if not owners:
            raise UnknownName(self._unknown("model", name, self.model_names()) + self._perhaps_in_a_broken_family())
        if len(owners) > 1:
            raise DuplicateName(_claimed("model", name, [plugin for plugin, _ in owners]))
        return owners[0]

    def _perhaps_in_a_broken_family(self) -> str:
        broken = {p.name for p in self.of_kind("backbone family")} - {p.name for p, _ in self.family_members()}
        if not broken:
            return ""
        return f"; the family {' and '.join(sorted(broken))} gives no names, `zoo plugin list --check` may tell why"

    def _unknown(self, kind: str, name: str, known: list[str]) -> str:
        install = self.registry.install_line(kind, name)
        if install:
            return f"{kind} {name!r} is known, but its package is not installed; run `{install}`"
        close = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"`zoo list {kind}s` shows what there is"
        return f"no {kind} is named {name!r}; {hint}"


def _names(plugin: Plugin, family: BackboneFamily) -> list[str]:
    with blaming(plugin):
        names = [*family.names()]
        if not all(isinstance(name, str) for name in names):
            raise TypeError("names() must give texts")
    return names


def _try_apart(plugin: Plugin) -> None:
    from zoo.catalogue.isolation.probe import probe, remembered

    verdict = remembered(plugin)
    # What failed once may have been mended since, by installing what it needs.
    verdict = verdict if verdict and not verdict.reason else probe(plugin)
    if verdict.reason:
        raise PluginBroken(_broken(plugin, verdict.reason))


def _failed_before(plugin: Plugin) -> bool:
    """Tell whether trying it once more, unasked, would only cost every command the same wait."""
    from zoo.catalogue.isolation.probe import remembered

    verdict = remembered(plugin)
    return bool(verdict and verdict.reason)


def _claimed(kind: str, name: str, plugins: list[Plugin]) -> str:
    owners = " and ".join(f"{p.owner} ({p.name})" if p.kind == "backbone family" else p.owner for p in plugins)
    choices = [f"{p.name}/{name}" if p.kind == "backbone family" else p.full_name for p in plugins]
    if len(set(choices)) < len(choices):
        return f"{kind} {name!r} is there twice in {owners}; uninstall that package"
    return f"{kind} {name!r} comes from {owners}; write {' or '.join(choices)}, or uninstall one"


def _broken(plugin: Plugin, reason: str) -> str:
    return f"{plugin.kind} {plugin.name!r} from {plugin.owner} {reason}; mend or uninstall that package"
