"""The drawings on an artifact's page, as inline SVG: accuracy against latency, the interval of the drop, layers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from zoo.evaluation.labelling import TEXT, Box, Label, place

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from zoo.records.manifest import ClassChange

WIDTH, HEIGHT = 760, 340
NARROW = 480
"""The width of a drawing that a phone can show whole."""
AREA = Box(58, 16, WIDTH - 12, HEIGHT - 46)
DEEPEST = 2.0
"""Points lost that are still drawn to scale, or four times the budget: a collapse must not squeeze the rest."""
FAR_BUDGET = 10.0
"""A budget beyond this is not drawn: the points would lie in one line above it."""
MANTISSAS = ((1, 10), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9))
FEWEST_TICKS, MOST_TICKS = 3, 7
STYLE = """
.plot { min-width: 38rem; } .plot text { font-size: 12px; } .plot.small { min-width: 0; max-width: 36rem; }
.plot .label { paint-order: stroke; stroke: var(--paper); stroke-width: 3px; stroke-linejoin: round; }
.axis { fill: none; stroke: currentColor; opacity: .35; }
.grid { fill: none; stroke: currentColor; opacity: .1; } .tick { opacity: .75; }
.limit { fill: none; stroke: var(--bad); stroke-dasharray: 5 4; } svg text.limit { fill: var(--bad); stroke: none; }
.allowed { fill: var(--good); opacity: .09; } .span { stroke: var(--accent); stroke-width: 2; fill: none; }
.file { fill: var(--accent); stroke: var(--accent); }
.chosen { fill: var(--paper); stroke: var(--accent); stroke-width: 2.5; }
.tried { fill: var(--paper); stroke: var(--faint); stroke-width: 1.5; } .base { fill: var(--ink); stroke: var(--ink); }
.accent { fill: var(--accent); } .second { fill: var(--second); } .green { fill: var(--good); }
.grey { fill: var(--faint); } .red { fill: var(--bad); }
"""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One model in the plot."""

    latency: float
    change: float
    """Points of accuracy against the reference; negative if it lost some."""
    text: str
    kind: str
    """"file": what the artifact holds; "base": what it replaces; "chosen" or "tried": a candidate."""
    detail: str
    """Shown where a pointer rests on it."""
    interval: tuple[float, float] | None = None
    """95 %, of the change."""


@dataclass(frozen=True, kw_only=True)
class _Axes:
    low_x: float
    high_x: float
    low_y: float
    high_y: float

    def x(self, latency: float) -> float:
        share = math.log(latency / self.low_x) / math.log(self.high_x / self.low_x)
        return AREA.left + (AREA.right - AREA.left) * share

    def y(self, change: float) -> float:
        share = (max(change, self.low_y) - self.low_y) / (self.high_y - self.low_y)
        return AREA.bottom - (AREA.bottom - AREA.top) * share


def scatter(marks: Sequence[Mark], *, budget: float, slowest: float | None, unit: str) -> str:
    """Draw accuracy against latency, and what is allowed of both.

    Args:
        marks: At least one, with latencies above 0; the most important first, and on top.
        budget: Points that may be lost.
        slowest: The latency that is still fast enough; None if speed is not judged.
        unit: Of the latencies, as the axis tells it.
    """
    axes = _axes(marks, budget, slowest)
    drawing = _grid(axes, unit) + _limits(axes, budget, slowest) + "".join(_mark(mark, axes) for mark in marks[::-1])
    title = "Accuracy against latency of this file, of fp32 and of every candidate that was measured"
    return _svg(title, WIDTH, HEIGHT, drawing + _labels(marks, axes))


def interval(drop: float, low: float, high: float, budget: float) -> str:
    """Draw the drop in points, its 95 % interval and the budget on one line."""
    begin, end = min(low, 0.0), max(high, min(budget, 4 * max(high, 1.0)))
    room = 0.08 * (end - begin or 1.0)
    begin, end = begin - room, end + room

    def x(value: float) -> float:
        return 12 + (NARROW - 24) * (value - begin) / (end - begin)

    ticks = "".join(
        f'<path class="grid" d="M{x(t):.1f},22 V50"/>'
        f'<text class="tick" x="{x(t):.1f}" y="66" text-anchor="middle">{t:g}</text>'
        for t in _ticks(begin, end)
    )
    side = "end" if x(budget) > NARROW / 2 else "start"
    limit = (
        f'<path class="limit" d="M{x(budget):.1f},18 V52"/>'
        f'<text class="limit" x="{x(budget):.1f}" y="13" text-anchor="{side}">allowed: {budget:g}</text>'
    )
    drawing = (
        f'{ticks}<path class="axis" d="M12,50 H{NARROW - 12}"/>{limit if budget <= end else ""}'
        f'<path class="span" d="M{x(low):.1f},29 V41 M{x(high):.1f},29 V41 M{x(low):.1f},35 H{x(high):.1f}"/>'
        f'<circle class="file" cx="{x(drop):.1f}" cy="35" r="5"/>'
    )
    return _svg(f"drop of {drop:.2f} points, 95 % interval {low:.2f} to {high:.2f}", NARROW, 72, drawing)


def strip(layers: Mapping[str, str]) -> str:
    """Draw a cell for each layer, in order, in the colour of its precision; and which colour is which.

    Args:
        layers: Layer -> precision; not empty.
    """
    counts = {p: list(layers.values()).count(p) for p in dict.fromkeys(layers.values())}
    order = sorted(counts, key=lambda p: -counts[p])
    colours = dict(zip(order, ["accent", "second", "green", "grey", "red"], strict=False))
    wide = (WIDTH - 2) / len(layers)
    gap = min(1.0, wide / 5)
    cells = "".join(
        f'<rect class="{colours.get(precision, "red")}" x="{1 + wide * i:.2f}" y="2" '
        f'width="{wide - gap:.2f}" height="26"><title>{escape(f"{layer}: {precision}")}</title></rect>'
        for i, (layer, precision) in enumerate(layers.items())
    )
    key = "".join(
        f'<span class="key"><svg class="dot" viewBox="0 0 10 10" aria-hidden="true">'
        f'<rect class="{colours.get(p, "red")}" width="10" height="10"/></svg>{escape(f"{p}: {counts[p]}")}</span>'
        for p in order
    )
    drawing = _svg(f"precision of {len(layers)} layers, in order", WIDTH, 30, cells)
    return f'<p class="legend">{key}</p>{drawing}'


def dumbbell(change: ClassChange) -> str:
    """Draw a class's share before and after on one line from 0 to 1."""
    before, after = 4 + 112 * change.reference_top1, 4 + 112 * change.artifact_top1
    worse = "red" if change.artifact_top1 < change.reference_top1 else "accent"
    drawing = (
        f'<path class="grid" d="M4,6 H116"/><rect class="{worse}" x="{min(before, after):.1f}" y="4.5" '
        f'width="{abs(after - before):.1f}" height="3"/><circle class="tried" cx="{before:.1f}" cy="6" r="3"/>'
        f'<circle class="{worse}" cx="{after:.1f}" cy="6" r="3"/>'
    )
    return f'<svg class="dumbbell" viewBox="0 0 120 12" aria-hidden="true">{drawing}</svg>'


def key(marks: Sequence[Mark]) -> str:
    """Explain the marks of the scatter plot."""
    kinds = {"file": "this file", "chosen": "chosen candidate", "tried": "other candidate", "base": "fp32"}
    there = {mark.kind for mark in marks}
    shapes = {_shape(kind, 7, 7): text for kind, text in kinds.items() if kind in there}
    if "tried" in there:
        shapes[_beyond("tried", 7, 11)] = "below the drawing"
    items = "".join(
        f'<span class="key"><svg class="dot" viewBox="0 0 14 14" aria-hidden="true">{shape}</svg>{text}</span>'
        for shape, text in shapes.items()
    )
    return f'<p class="legend">{items}</p>'


def _axes(marks: Sequence[Mark], budget: float, slowest: float | None) -> _Axes:
    times = [mark.latency for mark in marks] + ([slowest] if slowest else [])
    changes = [mark.change for mark in marks] + [end for mark in marks for end in mark.interval or ()]
    near = [-budget] if budget <= FAR_BUDGET else []
    low = max(min([*changes, *near, 0.0]), -max(DEEPEST, 4 * sum(map(abs, near))))
    high = max([*changes, 0.0])
    room, wide = 0.1 * (high - low or 1.0), max(1.15, (max(times) / min(times)) ** 0.08)
    return _Axes(low_x=min(times) / wide, high_x=max(times) * wide, low_y=low - room, high_y=high + room)


def _grid(axes: _Axes, unit: str) -> str:
    across = "".join(
        f'<path class="grid" d="M{AREA.left},{axes.y(t):.1f} H{AREA.right}"/>'
        f'<text class="tick" x="{AREA.left - 6}" y="{axes.y(t) + 4:.1f}" text-anchor="end">{t:g}</text>'
        for t in _ticks(axes.low_y, axes.high_y)
    )
    upright = "".join(
        f'<path class="grid" d="M{axes.x(t):.1f},{AREA.top} V{AREA.bottom}"/>'
        f'<text class="tick" x="{axes.x(t):.1f}" y="{AREA.bottom + 16}" text-anchor="middle">{t:.4g}</text>'
        for t in _log_ticks(axes.low_x, axes.high_x)
    )
    middle = (AREA.top + AREA.bottom) / 2
    return (
        f'{across}{upright}<path class="axis" d="M{AREA.left},{AREA.top} V{AREA.bottom} H{AREA.right}"/>'
        f'<text x="{(AREA.left + AREA.right) / 2}" y="{HEIGHT - 10}" text-anchor="middle">{escape(unit)}</text>'
        f'<text transform="translate(14,{middle}) rotate(-90)" text-anchor="middle">points gained or lost</text>'
    )


def _limits(axes: _Axes, budget: float, slowest: float | None) -> str:
    right = axes.x(slowest) if slowest else AREA.right
    bottom = axes.y(-budget) if -budget >= axes.low_y else AREA.bottom
    drawing = (
        f'<rect class="allowed" x="{AREA.left}" y="{AREA.top}" width="{right - AREA.left:.1f}" '
        f'height="{bottom - AREA.top:.1f}"/>'
    )
    if -budget >= axes.low_y:
        drawing += f'<path class="limit" d="M{AREA.left},{bottom:.1f} H{AREA.right}"/>'
    if slowest:
        drawing += f'<path class="limit" d="M{right:.1f},{AREA.top} V{AREA.bottom}"/>'
    return drawing


def _mark(mark: Mark, axes: _Axes) -> str:
    x, y = axes.x(mark.latency), axes.y(mark.change)
    shape = _beyond(mark.kind, x, y) if mark.change < axes.low_y else _shape(mark.kind, x, y)
    bar = ""
    if mark.interval:
        low, high = (axes.y(end) for end in mark.interval)
        bar = f'<path class="span" d="M{x:.1f},{low:.1f} V{high:.1f}"/>'
    return f"<g>{bar}{shape}<title>{escape(mark.detail)}</title></g>"


def _shape(kind: str, x: float, y: float) -> str:
    if kind == "base":
        return f'<rect class="base" x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>'
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{6 if kind == "file" else 4.5}"/>'


def _beyond(kind: str, x: float, y: float) -> str:
    """Draw an arrow at the lower edge, for what lies below it."""
    return f'<path class="{kind}" d="M{x - 5:.1f},{y - 9:.1f} h10 l-5,8 z"/>'


def _labels(marks: Sequence[Mark], axes: _Axes) -> str:
    labels = [Label(axes.x(m.latency), axes.y(m.change), _text(m, axes), m.kind in ("file", "base")) for m in marks]
    points = [Box(label.x - 5, label.y - 5, label.x + 5, label.y + 5) for label in labels]
    points += [
        Box(axes.x(m.latency) - 2, axes.y(m.interval[1]), axes.x(m.latency) + 2, axes.y(m.interval[0]))
        for m in marks
        if m.interval
    ]
    return "".join(
        f'<text class="label" x="{box.left:.1f}" y="{box.top + TEXT - 2.5:.1f}">{escape(label.text)}</text>'
        for label, box in place(labels, points, AREA)
    )


def _text(mark: Mark, axes: _Axes) -> str:
    return f"{mark.text}: {mark.change:.1f}" if mark.kind == "file" and mark.change < axes.low_y else mark.text


def _ticks(low: float, high: float) -> list[float]:
    """Return a handful of round numbers from `low` to `high`."""
    rough = (high - low) / MOST_TICKS
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(m * scale for m in (1, 2, 5, 10) if m * scale >= rough)
    return [round(i * step, 10) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Return a handful of round numbers for an axis where equal ratios are equally long."""
    found: list[float] = []
    for mantissas in MANTISSAS:
        exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        found = sorted({float(f"{m * 10.0**e:.6g}") for e in exponents for m in mantissas})
        found = [tick for tick in found if low <= tick <= high]
        if len(found) >= FEWEST_TICKS:
            break
    return found


def _svg(title: str, width: int, height: int, drawing: str) -> str:
    kind = "plot" if width > NARROW else "plot small"
    svg = f'<svg class="{kind}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">{drawing}</svg>'
    return f'<div class="scroll" tabindex="0">{svg}</div>'
