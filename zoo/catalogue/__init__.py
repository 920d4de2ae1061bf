"""What exists, what a name means, and the thing behind it, called safely."""

from __future__ import annotations

from zoo.catalogue.names import BackboneChoice, Catalogue

__all__ = ["BackboneChoice", "Catalogue"]
