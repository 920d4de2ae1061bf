"""What trackers take of nested metrics: its numbers, each under one flat name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

DEPTH = 3
TABLES = frozenset({"per_class"})
"""Would be thousands of curves with one point; report.html has them as a table."""


def numbers(metrics: Mapping[str, object], prefix: str = "", *, depth: int = DEPTH) -> dict[str, float]:
    """Return the numbers of `metrics` as "test/top1" -> value, tables and texts left out; true is 1, false is 0."""
    found: dict[str, float] = {}
    for key, value in metrics.items():
        if isinstance(value, (bool, int, float)):
            found[f"{prefix}{key}"] = float(value)
        elif isinstance(value, dict) and depth > 1 and key not in TABLES:
            found |= numbers(value, f"{prefix}{key}/", depth=depth - 1)
    return found
