"""`report.html` of a search: the best, what mattered, how it went, every trial; one self-contained page."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from zoo.evaluation.page import page, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from zoo.tune.objective import Objective
    from zoo.tune.outcome import TrialRow, TuneResult

BLUE, ORANGE = "var(--accent)", "var(--second)"
WIDTH = 420


def render_report(result: TuneResult) -> str:
    """Return the page."""
    name = result.folder.name
    winner = next(row for row in result.trials if row.number == result.best[0])
    states = [row.state for row in result.trials]
    told = ", ".join(f"{states.count(s)} {s}" for s in ("complete", "pruned", "failed") if s in states)
    body = [
        f"<h1>{escape(name)}</h1>",
        f'<p class="faint">{len(result.trials)} trials: {told}</p>',
        f'<p class="big">{escape(", ".join(f"{k} {v:.4f}" for k, v in winner.values.items()))}</p>',
        f'<p class="faint">trial {winner.number}: {escape(_options(winner.params))}; in recipe.toml</p>',
        '<div class="curves">',
        *(_history(result.trials, objective) for objective in result.objectives),
        *(_importance(objective, shares) for objective, shares in result.importance.items()),
        "</div>",
        "<h2>Trials</h2>",
        table(*trial_table(result)),
    ]
    return page(name, body)


def trial_table(result: TuneResult) -> tuple[list[str], list[list[str]]]:
    """Return columns and rows: the best first, then by number."""
    objectives = [objective.name for objective in result.objectives]
    options = list(dict.fromkeys(name for row in result.trials for name in row.params))
    order = sorted(result.trials, key=lambda row: (row.number not in result.best, row.number))
    rows = [
        [
            f"{row.number}{' *' if row.number in result.best else ''}",
            row.state,
            *(f"{row.values[name]:.4f}" if name in row.values else "" for name in objectives),
            *(_short(row.params.get(name, "")) for name in options),
            f"{row.seconds:.0f}",
        ]
        for row in order
    ]
    return ["trial", "state", *objectives, *options, "seconds"], rows


def _importance(objective: str, shares: Mapping[str, float]) -> str:
    """Draw a bar an option: its share of what the objective varied."""
    bars = "".join(
        f'<text x="120" y="{42 + 22 * i}" text-anchor="end">{escape(name)}</text>'
        f'<rect x="128" y="{30 + 22 * i}" width="{230 * share:.1f}" height="15" style="fill:{BLUE}"/>'
        f'<text x="{134 + 230 * share:.1f}" y="{42 + 22 * i}">{100 * share:.0f} %</text>'
        for i, (name, share) in enumerate(sorted(shares.items(), key=lambda item: -item[1]))
    )
    return _svg(f"what mattered for {objective}", 40 + 22 * len(shares), bars)


def _history(trials: Sequence[TrialRow], objective: Objective) -> str:
    """Draw a point a complete trial, and a line for the best so far."""
    points = [(row.number, row.values[objective.name]) for row in trials if row.state == "complete"]
    left, right, top, bottom = 52, WIDTH - 10, 26, 206
    low, high = min(value for _, value in points), max(value for _, value in points)
    last = max(number for number, _ in points) or 1

    def place(number: int, value: float) -> tuple[float, float]:
        return left + (right - left) * number / last, bottom - (bottom - top) * (value - low) / ((high - low) or 1.0)

    better = max if objective.maximize else min
    line = [place(number, better(v for n, v in points if n <= number)) for number, _ in points]
    drawing = (
        f'<path d="M{left},{top} V{bottom} H{right}" fill="none" stroke="currentColor" opacity=".3"/>'
        f'<text x="{left - 4}" y="{top + 6}" text-anchor="end">{high:.4g}</text>'
        f'<text x="{left - 4}" y="{bottom}" text-anchor="end">{low:.4g}</text>'
        f'<polyline fill="none" style="stroke:{ORANGE}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in line)}"/>'
        + "".join(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" style="fill:{BLUE}">'
            f"<title>trial {number}: {value:.4f}</title></circle>"
            for number, value in points
            for x, y in [place(number, value)]
        )
        + f'<text x="{left}" y="{bottom + 18}">trial 0</text>'
        f'<text x="{right}" y="{bottom + 18}" text-anchor="end">{last}</text>'
    )
    return _svg(f"{objective.name}, and the best so far", bottom + 26, drawing)


def _svg(title: str, height: int, drawing: str) -> str:
    label = f'<text x="8" y="14">{escape(title)}</text>'
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">{label}{drawing}</svg>'


def _options(params: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {_short(value)}" for name, value in params.items())


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
