"""An artifact's page on corrupted images: a cell for each corruption and strength, the darker the more it loses."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from zoo.evaluation.figures import percent, signed
from zoo.evaluation.page import Markup, table

if TYPE_CHECKING:
    from zoo.records.manifest import Report, Stressed

STYLE = """
.stress td + td { min-width: 3.4rem; } .stress .cell { display: block; padding: .1rem .35rem; border-radius: .3rem; }
.stress .of { color: var(--faint); font-size: .8rem; }
"""
DARKEST = 25.0
"""Points lost from which on a cell is as dark as it gets."""


def under_stress(report: Report) -> list[str]:
    """Return the table; nothing where no corrupted image was asked."""
    if not report.stress or report.stress_drop is None:
        return []
    first = next(iter(report.stress.values()))
    columns = ["corruption", *(f"{number + 1}." for number in range(len(first.flips))), "all", "answers changed"]
    allowed = "" if report.max_stress_drop is None else f", and {report.max_stress_drop:g} may be lost"
    told = (
        "The share of this file's answers that are right at five strengths of each corruption, and beside it the "
        f"points that it gains or loses against eager fp32 on the same corrupted images: {first.images} of "
        f"{report.split} in each cell. Over all of them it loses {report.stress_drop:.2f} points{allowed}. "
        "So few images make a cell coarse; a row that is dark throughout is what to look at."
    )
    rows = [_row(name, report.stress[name]) for name in sorted(report.stress, key=lambda n: -_points(report.stress[n]))]
    body = table(columns, rows, kind="stress numbers")
    return ["<h2>Under stress</h2>", f'<p class="faint">{escape(told)}</p>', body]


def _points(row: Stressed) -> float:
    return 100 * (sum(row.reference_top1) - sum(row.artifact_top1)) / len(row.flips)


def _row(name: str, row: Stressed) -> list[object]:
    cells = [_cell(before, after) for before, after in zip(row.reference_top1, row.artifact_top1, strict=True)]
    return [name, *cells, signed(-_points(row)), f"{sum(row.flips)} of {row.images * len(row.flips)}"]


def _cell(before: float, after: float) -> Markup:
    lost = 100 * (before - after)
    shade = round(60 * min(max(lost, 0.0) / DARKEST, 1.0))
    style = f' style="background: color-mix(in srgb, var(--bad) {shade}%, transparent)"' if shade else ""
    beside = f' <span class="of">{-lost:+.0f}</span>' if round(lost) else ""
    return Markup(f'<span class="cell"{style}>{percent(after, 0)}{beside}</span>')
