"""How pixels become the model's input, under the name that outsiders import it by."""

from __future__ import annotations

from zoo.contracts.preprocess import Preprocess

__all__ = ["Preprocess"]
