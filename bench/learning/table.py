"""Means, intervals and differences of the results, as lines of a table and as figures for scripts."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

from scipy.stats import t

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.learning.result import Result
    from bench.learning.rows import Row

    Sides = Mapping[str, Sequence[Result]]
    """Side -> a result for each seed; all sides have the same seeds."""

SHARE = 0.95
"""Of all such intervals that hold the true mean."""
OURS = "zoo"


def table_head(sides: Sequence[str]) -> str:
    columns = "".join(f"{side:>17}" for side in sides)
    return f"{'':18}{'train':>6}{'test':>6}{columns}   CPU seconds of {', '.join(sides)}"


def table_lines(row: Row, sides: Sides, columns: Sequence[str]) -> list[str]:
    """Return the line of a row, and one for the difference to each other side."""
    first = sides[OURS][0]
    cells = "".join(f"{_interval([r.top1 for r in sides[side]]) if side in sides else '':>17}" for side in columns)
    seconds = ", ".join(f"{_mean_seconds(sides[side]):.0f}" if side in sides else "-" for side in columns)
    lines = [f"{row.name:18}{first.train:6}{first.test:6}{cells}   {seconds}"]
    for side in columns:
        if side in sides and side != OURS:
            gaps = [ours.top1 - other.top1 for ours, other in zip(sides[OURS], sides[side], strict=True)]
            lines.append(f"    {OURS} - {side:6} {_interval(gaps, sign='+')}   {verdict(gaps)}")
    return lines


def figures(row: Row, sides: Sides) -> dict[str, float]:
    """Return the figures of a row under the names that scripts rely on."""
    means = {f"{row.name}_{side}": statistics.fmean(r.top1 for r in results) for side, results in sides.items()}
    return {**means, f"{row.name}_seconds": _mean_seconds(sides[OURS])}


def half_width(values: Sequence[float]) -> float:
    """Return half of Student's interval around the mean; of one value it is infinite."""
    if len(values) < 2:
        return math.inf
    return float(t.ppf((1 + SHARE) / 2, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))


def verdict(gaps: Sequence[float]) -> str:
    """Say what differences, paired by seed, tell."""
    if len(gaps) < 2:
        return "one seed tells nothing"
    mean, half = statistics.fmean(gaps), half_width(gaps)
    if abs(mean) <= half:
        return "no difference seen"
    return "ahead" if mean > 0 else "behind"


def _interval(values: Sequence[float], *, sign: str = "") -> str:
    mean = f"{statistics.fmean(values):{sign}.2f}"
    return f"{mean} ± {half_width(values):.2f}" if len(values) > 1 else mean


def _mean_seconds(results: Sequence[Result]) -> float:
    return statistics.fmean(result.seconds for result in results)
