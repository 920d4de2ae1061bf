"""What an artifact may lose, and the findings where it loses more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.contracts.precision import row_of
from zoo.contracts.verdict import PROVEN, REFUSED, UNPROVEN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from zoo.contracts.precision import Precision

RESIZE_LIMIT = 5e-2
"""The same of a file that resizes: its pixels are Pillow's but for a level here and there, and a few in tall images."""
CONTROL_FACTOR = 10
"""A difference is no fault of the file's if the least change of input moves the reference itself by a tenth of it."""
UNKNOWN_LIMIT = 0.5
"""Points of images whose `unknown` may change at these; below them the share of unknown images is judged."""
DEFAULT_MAX_DROP = 1.0


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What the user allows."""

    max_drop: float = DEFAULT_MAX_DROP
    """Points of top-1; of exact match, and of mAP, where an image may have several labels."""
    min_speedup: float | None = None
    """Over fp32 of the same format in the same runtime; None means that speed is not judged."""
    max_stress_drop: float | None = None
    """Points, over all corruptions and strengths; None means that they are not judged."""
    confidence: float = 0.95
    """In 0..1: how often a bound of the drop, computed as this one is, holds."""


@dataclass(frozen=True)
class Finding:
    """Something measured beyond its limit."""

    what: str
    measured: float
    limit: float

    def __str__(self) -> str:
        return f"{self.what} {self.measured:.4g}, limit {self.limit:.4g}"


def findings(report: Mapping[str, Any], budget: Budget, precision: str) -> list[Finding]:
    """Return everything in the numbers of a report that is beyond its limit; none means accepted.

    Args:
        report: The keys of `Report`, as far as they were measured.
        budget: What the user allows.
        precision: Of the artifact.
    """
    several, row = report.get("map_drop") is not None, row_of(precision)
    checks = [Finding(f"drop of {'exact match' if several else 'top-1'} in points", report["drop"], budget.max_drop)]
    if several:
        checks.append(Finding("drop of mAP in points", report["map_drop"], budget.max_drop))
    control = report.get("control")
    moved = CONTROL_FACTOR * control.max_probability_difference if control else 0.0
    if row.probability_limit:
        limit = max(row.probability_limit, moved, RESIZE_LIMIT if report.get("resize") else 0.0)
        checks.append(Finding("largest probability difference", report["max_probability_difference"], limit))
    for size, difference in report["batches"].items():
        limit = max(row.batch_limit, moved)
        checks.append(Finding(f"probability difference in a batch of {size}", difference, limit))
    if report.get("unknown_flips") is not None:
        checks.append(_unknown_finding(report, budget, row))
    if budget.max_stress_drop is not None and report.get("stress_drop") is not None:
        checks.append(Finding("drop under stress in points", report["stress_drop"], budget.max_stress_drop))
    over = [f for f in checks if not f.measured <= f.limit]
    speedup = report.get("speedup")
    if budget.min_speedup is not None and speedup is not None and not speedup >= budget.min_speedup:
        over.append(Finding("speed over fp32", speedup, budget.min_speedup))
    return over


def verdict_of(reasons: Sequence[str], bound: float, budget: Budget) -> str:
    """Return which of the three verdicts stands.

    Args:
        reasons: Why the file is refused; empty if it is not.
        bound: Of the drop, in points.
        budget: What the user allows.
    """
    if reasons:
        return REFUSED
    return PROVEN if bound <= budget.max_drop else UNPROVEN


def _unknown_finding(report: Mapping[str, Any], budget: Budget, row: Precision) -> Finding:
    if row.probability_limit:
        changed = 100 * report["unknown_flips"] / report["images"]
        return Finding("images whose `unknown` changed in points", changed, UNKNOWN_LIMIT)
    change = 100 * abs(report["artifact_unknown"] - report["reference_unknown"])
    # One that calls nearly nothing unknown any more is as wrong as one that calls too much so.
    limit = max(budget.max_drop, 50 * report["reference_unknown"])
    return Finding("change of the share of unknown images in points", change, limit)
