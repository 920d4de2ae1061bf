"""Every entry point of every installed distribution, read one by one; nothing behind a name is imported."""

from __future__ import annotations

import difflib
import importlib.metadata
import re
from dataclasses import dataclass

from zoo.catalogue.isolation.malformed import entry_points_of, spare_libraries

API_VERSION = 1
"""Of the contracts in `zoo.plugin`; a plugin's module may state the one that it was written for as `ZOO_API`."""

OURS = "edgezoo"
"""Our own distribution: the core asks for its plugins by full name, so that nobody can take their place."""

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

    @property
    def full_name(self) -> str:
        """The name that means this one whoever else claims its short name."""
        return f"{self.distribution}/{self.name}"


@dataclass(frozen=True)
class Unreadable:
    """Something that wants to be a plugin and cannot be told apart as one."""

    distribution: str
    version: str
    name: str
    """The entry point; empty where the distribution's whole list cannot be read."""
    reason: str


Installed = tuple[tuple[Plugin, ...], tuple[Unreadable, ...]]
"""What can be used, and what cannot even be read."""


def api_fault(stated: object) -> str:
    """Tell why a plugin that states this `ZOO_API` cannot be used here; empty if it can."""
    if stated is None or (isinstance(stated, int) and 1 <= stated <= API_VERSION):
        return ""
    return f"needs version {stated!r} of the plugin API, this zoo has {API_VERSION}; upgrade edgezoo"


def installed_plugins() -> Installed:
    """Return what can be used, and what cannot even be read.

    `importlib.metadata.entry_points()` is of no use here: one malformed file makes it fail for everybody.
    """
    plugins: list[Plugin] = []
    unreadable: list[Unreadable] = []
    seen: set[str] = set()
    for distribution in importlib.metadata.distributions():
        try:
            # Read all: a malformed list of somebody who has nothing to do with us stops torch just the same.
            entry_points = [ep for ep in entry_points_of(distribution) if ep.group.startswith("zoo.")]
        except Exception as exc:
            name, version = _identity(distribution)
            reason = f"its entry_points.txt cannot be read ({type(exc).__name__}); reinstall that package"
            unreadable.append(Unreadable(name, version, "", reason))
            spare_libraries()
            continue
        name, version = _identity(distribution) if entry_points else ("", "")
        if name not in seen:
            _sort(entry_points, (name, version), plugins, unreadable)
        seen |= {name} - {""}
    return tuple(plugins), tuple(unreadable)


def _sort(
    entry_points: list[importlib.metadata.EntryPoint],
    identity: tuple[str, str],
    plugins: list[Plugin],
    unreadable: list[Unreadable],
) -> None:
    for entry_point in entry_points:
        fault = _fault(entry_point)
        if fault:
            unreadable.append(Unreadable(*identity, entry_point.name, fault))
        elif entry_point.group in _KINDS:
            plugins.append(Plugin(_KINDS[entry_point.group], entry_point.name, *identity, entry_point))


_KINDS = {group: kind for kind, group in GROUPS.items()}


def _identity(distribution: importlib.metadata.Distribution) -> tuple[str, str]:
    """Return name and version, also of a distribution whose METADATA is missing or lacks them."""
    metadata = distribution.metadata
    folder = str(getattr(getattr(distribution, "_path", None), "name", "unknown")).removesuffix(".dist-info")
    name, _, version = folder.partition("-")
    return str((metadata and metadata["Name"]) or name), str((metadata and metadata["Version"]) or version or "?")


def _fault(entry_point: importlib.metadata.EntryPoint) -> str:
    """Tell why an entry point of ours cannot be used; empty if it can, or is nobody's concern here."""
    group, name = entry_point.group, entry_point.name
    if group not in _KINDS:
        close = difflib.get_close_matches(group, _KINDS, n=1, cutoff=0.85)
        return f"group {group!r} does not exist; it should read {close[0]!r}" if close else ""
    if not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", name):
        return f"{name!r} cannot be typed as a name; use letters, digits, '.', '_', '+' and '-'"
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", entry_point.value.strip()):
        return f"{entry_point.value!r} does not say MODULE:NAME"
    return ""
