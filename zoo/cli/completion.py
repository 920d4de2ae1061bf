"""What the shell offers after a Tab: names and plugins' options, read from sources; no plugin is imported."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zoo.catalogue import Catalogue

Offer = list[tuple[str, str]]
"""What could stand there, and a word on it."""

FLAGS = {
    "dataset_options": ("dataset", "dataset"),
    "augment_options": ("augmentation", "augment"),
    "backbone_options": ("backbone", "model"),
    "tracker_options": ("tracker", "trackers"),
    "export_option": ("exporter", "format_"),
}
"""Parameter that takes KEY=VALUE -> kind of plugin, and the parameter that names the plugin."""


def names(kind: str) -> Callable[[Any, str], Offer]:
    """Return what completes the names of a kind."""

    def complete(ctx: Any, incomplete: str) -> Offer:
        return [offer for offer in _names(_catalogue(ctx), kind) if offer[0].startswith(incomplete)]

    return complete


def options(parameter: str) -> Callable[[Any, str], Offer]:
    """Return what completes KEY= of the plugin that the command line names already."""

    def complete(ctx: Any, incomplete: str) -> Offer:
        kind, named_by = FLAGS[parameter]
        name = ctx.params.get(named_by) or (_first_word() if named_by == "model" else None)
        name = name[0] if isinstance(name, list | tuple) and name else name
        found = _options(_catalogue(ctx), kind, name) if isinstance(name, str) else []
        return [offer for offer in found if offer[0].startswith(incomplete)]

    return complete


def things(ctx: Any, incomplete: str) -> Offer:
    """Complete the name in `zoo show KIND NAME`."""
    kind = ctx.params.get("kind")
    return names(str(getattr(kind, "value", kind)))(ctx, incomplete)


def _first_word() -> str | None:
    """Return the word after the command, as typed: click gives no arguments while an option lacks its value."""
    words = (os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS") or "").split()
    return words[2] if len(words) > 2 and not words[2].startswith("-") else None


def _catalogue(ctx: Any) -> Catalogue:
    from pathlib import Path

    from zoo.catalogue import Catalogue

    registry = ctx.find_root().params.get("registry")
    return Catalogue.read(Path(registry) if registry else None)


def _names(catalogue: Catalogue, kind: str) -> Iterator[tuple[str, str]]:
    entries = getattr(catalogue.registry, f"{kind}s", {})
    for name, entry in entries.items():
        yield name, entry.get("description", "") if isinstance(entry, dict) else getattr(entry, "description", "")
    for plugin in catalogue.of_kind("backbone" if kind == "model" else kind):
        if plugin.name not in entries:
            yield plugin.name, plugin.owner


def _options(catalogue: Catalogue, kind: str, name: str) -> Offer:
    from zoo.catalogue.isolation.reading import read
    from zoo.catalogue.options import option_helps
    from zoo.errors import ZooError

    section: Any = {"dataset": catalogue.registry.datasets, "backbone": catalogue.registry.models}.get(kind, {})
    entry = section.get(name)
    name = getattr(entry, "plugin", "") or getattr(entry, "backbone", "") or name
    try:
        found = read(catalogue.find(kind, name).entry_point)
    except ZooError:
        return []
    helps = option_helps(found.doc)
    return [(f"{option}=", helps.get(option, "")) for option in found.options or (helps if kind == "exporter" else ())]
