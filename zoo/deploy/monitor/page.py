"""The page of `zoo monitor`: the verdict, and for each number its spread now beside that of the proof's images."""

from __future__ import annotations

import itertools
from html import escape
from typing import TYPE_CHECKING

from zoo.evaluation.figures import percent
from zoo.evaluation.page import Markup, page, table

if TYPE_CHECKING:
    from zoo.deploy.monitor.drift import Drift, Shift

STYLE = """
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1rem; }
figure { margin: 0; padding: .6rem .8rem; background: var(--panel); border-radius: .5rem; }
figure.found { outline: 2px solid var(--bad); } figcaption { display: flex; justify-content: space-between; }
.before { fill: var(--faint); opacity: .55; } .now { fill: var(--accent); } .found .now { fill: var(--bad); }
.ok { color: var(--good); } .not { color: var(--bad); }
.swatch { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin: 0 .3em 0 1em; }
"""
WIDTH, HEIGHT, FOOT = 260, 90, 16
MOST_BARS = 40
"""Of classes; those that changed most, where there are more."""


def render_drift(subject: str, log: str, found: Drift) -> str:
    """Return the page.

    Args:
        subject: The artifact.
        log: The log's name.
        found: What was compared.
    """
    kind, said = ("not", "Drift") if found.findings else ("ok", "No drift")
    about = (
        f"{found.entries:,} predictions of {log}, beside {found.reference_images:,} images in the proof of {subject}"
    )
    left_out = f"; {found.left_out:,} of other models left out" if found.left_out else ""
    body = [
        f"<h1>{escape(subject)} in production</h1>",
        f'<p class="big {kind}">{said}</p>',
        f'<p class="faint">{escape(about + left_out)}</p>',
        "".join(f"<p>{escape(finding)}</p>" for finding in found.findings),
        '<p class="faint"><span class="swatch" style="background: var(--faint)"></span>images of the proof'
        '<span class="swatch" style="background: var(--accent)"></span>now</p>',
        f'<div class="grid">{"".join(_figure(shift, found) for shift in found.shifts)}</div>',
        "<h2>In numbers</h2>",
        table(["", "PSI", "limit", ""], [_row(shift) for shift in found.shifts]),
    ]
    if found.unknown is not None:
        before = "" if found.reference_unknown is None else f" ({percent(found.reference_unknown)} in the proof)"
        body.append(f"<p>{percent(found.unknown)} of the images are unknown{before}.</p>")
    return page(f"{subject} in production", body, STYLE)


def _row(shift: Shift) -> list[object]:
    verdict = Markup('<span class="not">shifted</span>') if shift.finding else Markup('<span class="ok">ok</span>')
    return [shift.what, f"{shift.psi:.3f}", f"{shift.limit:.2f}", verdict]


def _figure(shift: Shift, found: Drift) -> str:
    kind = ' class="found"' if shift.finding else ""
    head = f"<figcaption><b>{escape(shift.what)}</b><span>PSI {shift.psi:.2f}</span></figcaption>"
    return f"<figure{kind}>{head}{_bars(shift, found)}</figure>"


def _bars(shift: Shift, found: Drift) -> str:
    """Draw two bars a bin, as shares of all images."""
    before, now = (_shares(counts) for counts in (shift.before, shift.now))
    names = _names(shift, found)
    order = sorted(sorted(range(len(before)), key=lambda i: -abs(now[i] - before[i]))[:MOST_BARS])
    highest = max(max(before), max(now), 1e-9)
    width = WIDTH / len(order)
    drawn = []
    for place, i in enumerate(order):
        title = f"<title>{escape(names[i])}: {percent(before[i], 1)} before, {percent(now[i], 1)} now</title>"
        pair = [("before", before[i], 0.08), ("now", now[i], 0.5)]
        drawn += [
            f'<rect class="{kind}" x="{(place + at) * width:.1f}" y="{(HEIGHT - FOOT) * (1 - share / highest):.1f}" '
            f'width="{0.4 * width:.1f}" height="{(HEIGHT - FOOT) * share / highest:.1f}">{title}</rect>'
            for kind, share, at in pair
        ]
    foot = f'<text x="0" y="{HEIGHT - 3}">{escape(names[order[0]])}</text>'
    foot += f'<text x="{WIDTH}" y="{HEIGHT - 3}" text-anchor="end">{escape(names[order[-1]])}</text>'
    label = f"{shift.what}: the proof's images and now"
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">{"".join(drawn)}{foot}</svg>'


def _shares(counts: tuple[int, ...]) -> list[float]:
    total = max(sum(counts), 1)
    return [count / total for count in counts]


def _names(shift: Shift, found: Drift) -> list[str]:
    if not shift.edges:
        return list(found.classes)
    edges = [f"{edge:.3g}" for edge in shift.edges]
    between = [f"{low} to {high}" for low, high in itertools.pairwise(edges)]
    return [f"up to {edges[0]}", *between, f"over {edges[-1]}"]
