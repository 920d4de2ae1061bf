"""What exists, what a name means, and the thing behind it, called safely."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.catalogue.names import BackboneChoice, Catalogue

__all__ = ["BackboneChoice", "Catalogue"]


def opened(catalogue: Catalogue | str | Path | None) -> Catalogue:
    """Return what names mean: as given, or with a registry.toml laid over ours, or as it is installed."""
    from zoo.catalogue.names import Catalogue

    if isinstance(catalogue, Catalogue):
        return catalogue
    return Catalogue.read(None if catalogue is None else Path(catalogue))


def __getattr__(name: str) -> Any:
    # A constant of `installed.py`, which `zoo --help` needs, is to be had without the registry and its readers.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from zoo.catalogue import names

    return getattr(names, name)
