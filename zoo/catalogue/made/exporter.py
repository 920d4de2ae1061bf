"""An exporter's plugin -> the exporter, its contract checked in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.catalogue.calling import blaming, guest
from zoo.contracts.plugins import PRECISIONS
from zoo.errors import ContractBroken

if TYPE_CHECKING:
    from zoo.catalogue import Catalogue
    from zoo.catalogue.installed import Plugin
    from zoo.contracts.plugins import Exporter


def make_exporter(catalogue: Catalogue, plugin: Plugin) -> Exporter:
    """Import an exporter and make it.

    Raises:
        PluginBroken, ContractBroken: it cannot be imported or made, or has no precision that zoo knows.
    """
    make = catalogue.load(plugin)
    with blaming(plugin):
        exporter: Exporter = make()
    exporter = guest(plugin, exporter, "suffix", "precisions", "export", "open")
    precisions: object = exporter.precisions
    if not isinstance(precisions, tuple) or not precisions or not set(precisions) <= set(PRECISIONS):
        raise ContractBroken(
            f"exporter {plugin.name!r} from {plugin.owner}: its precisions must be a tuple of some of "
            f"{', '.join(PRECISIONS)}, got {precisions!r}; mend that package, or do without it"
        )
    return exporter
