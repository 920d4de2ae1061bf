"""The state of every installed plugin, told without importing one; `check` tries each in a process of its own."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from zoo.catalogue.installed import api_fault
from zoo.catalogue.isolation.reading import read

if TYPE_CHECKING:
    from zoo.catalogue import Catalogue
    from zoo.catalogue.installed import Plugin
    from zoo.catalogue.isolation.probe import Verdict
    from zoo.catalogue.isolation.reading import Reading

State = Literal["ok", "broken", "conflict"]


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What is known of one plugin."""

    name: str
    kind: str
    distribution: str
    version: str
    api: int | None = None
    """The API version that it states; None if it states none."""
    state: State = "ok"
    reason: str = ""
    """Why it is not ok; if it is, what its import did to the process beside, which zoo undoes."""
    checked: bool = False
    """Whether this version was imported once, in a process of its own."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def conditions(catalogue: Catalogue, *, check: bool = False) -> list[Condition]:
    """Return the state of all, by kind and name; raises nothing and imports no plugin into this process."""
    plugins = sorted(catalogue.plugins, key=lambda p: (p.kind, p.name, p.distribution))
    readings = [read(plugin.entry_point) for plugin in plugins]
    usable = [p for p, r in zip(plugins, readings, strict=True) if not (r.fault or api_fault(r.api))]
    verdicts = _verdicts(usable, check=check)
    owners = _owners(catalogue)
    found = [
        _with_conflict(_condition(plugin, reading, verdicts.get(plugin)), owners[plugin.kind, plugin.name])
        for plugin, reading in zip(plugins, readings, strict=True)
    ]
    unreadable = [
        Condition(name=u.name, kind="", distribution=u.distribution, version=u.version, state="broken", reason=u.reason)
        for u in catalogue.unreadable
    ]
    return [*found, *unreadable]


def _verdicts(plugins: list[Plugin], *, check: bool) -> dict[Plugin, Verdict | None]:
    from zoo.catalogue.isolation.probe import probe_all, remembered

    found = probe_all(plugins) if check else [remembered(plugin) for plugin in plugins]
    return dict(zip(plugins, found, strict=True))


def _condition(plugin: Plugin, reading: Reading, verdict: Verdict | None) -> Condition:
    condition = Condition(
        name=plugin.name,
        kind=plugin.kind,
        distribution=plugin.distribution,
        version=plugin.version,
        api=reading.api if isinstance(reading.api, int) else None,
        checked=verdict is not None,
    )
    # What was tried goes before what the source lets expect.
    fault = api_fault(reading.api) or reading.fault or (verdict.reason if verdict else reading.end)
    if fault:
        return replace(condition, state="broken", reason=fault)
    effects = ", ".join(verdict.effects if verdict else reading.effects)
    return replace(condition, reason=f"at import it {effects}" if effects else "")


def _owners(catalogue: Catalogue) -> dict[tuple[str, str], list[str]]:
    """Return who claims each name of each kind; a model of registry.toml goes before a backbone of that name."""
    owners: dict[tuple[str, str], list[str]] = defaultdict(list)
    for plugin in catalogue.plugins:
        owners[plugin.kind, plugin.name].append(plugin.owner)
    for name, entry in catalogue.registry.models.items():
        if ("backbone", name) in owners and entry.backbone.rpartition("/")[2] != name:
            owners["backbone", name].append("registry.toml")
    return owners


def _with_conflict(condition: Condition, owners: list[str]) -> Condition:
    if len(owners) == 1 or condition.state == "broken":
        return condition
    own = f"{condition.distribution} {condition.version}"
    others = [owner for owner in owners if owner != own]
    if not others:
        return replace(condition, state="conflict", reason=f"{own} has this name twice; uninstall it")
    reason = f"{' and '.join(others)} has this name too; write {condition.distribution}/{condition.name}"
    return replace(condition, state="conflict", reason=reason)
