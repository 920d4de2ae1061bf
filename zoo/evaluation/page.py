"""What every page shares: one file that needs no other, its style in light and dark, tables, numbers as people read."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

STYLE = """
:root { color-scheme: light; --paper: #fff; --ink: #1f2328; --line: #8884; --faint: #6b7280; --panel: #8881;
  --good: #15803d; --bad: #c81e1e; --heed: #a16207; --accent: #2563eb; --second: #c2410c; }
@media screen and (prefers-color-scheme: dark) { :root { color-scheme: dark; --paper: #16181d; --ink: #e6e6e6;
  --faint: #9aa1ab; --good: #4ade80; --bad: #f87171; --heed: #facc15; --accent: #60a5fa; --second: #fb923c; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  background: var(--paper); color: var(--ink); }
h1 { font-size: 1.4rem; margin-bottom: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin-top: 2rem; break-after: avoid; }
.big { font-size: 2.2rem; font-weight: 600; margin: .2rem 0; } .faint { color: var(--faint); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { padding: .15rem .6rem; border-bottom: 1px solid var(--line); text-align: right; font-weight: normal; }
th:first-child, td:first-child { text-align: left; } th { color: var(--faint); }
.matrix td + td { min-width: 1.6rem; text-align: center; padding: .1rem .3rem; }
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); gap: 1rem; }
svg { width: 100%; height: auto; } svg text { font-size: 11px; fill: currentColor; }
.scroll { overflow-x: auto; }
summary { cursor: pointer; color: var(--faint); margin: .4rem 0; }
@media print { details::details-content { content-visibility: visible; height: auto; } .scroll { overflow: visible; }
  tr, svg, figure { break-inside: avoid; } body { max-width: none; margin: 0; } }
"""


FRAGMENT = (
    "{ --ink: currentColor; --line: #8884; --faint: #8b929c; --panel: #8881; --good: #16a34a; --bad: #e5484d; "
    "--heed: #b7791f; --accent: #3b82f6; --second: #ea7317; font: 14px/1.5 system-ui, sans-serif; max-width: 60rem; }",
    ".big { font-size: 1.7rem; font-weight: 600; margin: .1rem 0; }",
    ".faint, .zoo-result summary, .zoo-result th { color: var(--faint); }",
    "p { margin: .2rem 0; }",
    ".good { color: var(--good); }",
    ".bad { color: var(--bad); }",
    ".heed { color: var(--heed); }",
    "table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .4rem 0; }",
    "td, .zoo-result th { padding: .1rem .6rem; border-bottom: 1px solid var(--line); text-align: right; "
    "font-weight: normal; background: none; }",
    "th:first-child, .zoo-result td:first-child { text-align: left; }",
    ".matrix td + td { min-width: 1.6rem; text-align: center; }",
    ".listing td, .zoo-result .listing th { text-align: left; }",
    ".curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: 1rem; }",
    "svg { width: 100%; height: auto; max-width: 28rem; }",
    "svg text { font-size: 11px; fill: currentColor; }",
    ".scroll { overflow-x: auto; }",
    ".pictures { display: flex; flex-wrap: wrap; gap: .8rem; }",
    "figure { margin: 0; width: 9rem; font-size: .8rem; line-height: 1.4; overflow-wrap: anywhere; }",
    "figure img { width: 100%; aspect-ratio: 1; object-fit: contain; background: var(--panel); }",
    ".bar { display: block; height: .3rem; background: var(--accent); border-radius: .2rem; min-width: 1px; }",
)
"""Rules of a fragment, each for what is inside it. No dark variant: a notebook's theme need not be the system's."""


class Markup(str):
    """Text that is HTML already; `told` escapes any other."""

    __slots__ = ()


def page(title: str, body: Sequence[str], style: str = "") -> str:
    """Return a whole page.

    Args:
        title: Plain text.
        body: HTML, in order.
        style: CSS of this kind of page, beside what all share.
    """
    meta = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    head = f"{meta}<title>{escape(title)}</title><style>{STYLE}{style}</style>"
    text = f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(body)}</body></html>\n'
    # A name need not be text that UTF-8 can hold; what cannot be written is shown as an escape.
    return text.encode("utf-8", "backslashreplace").decode()


def fragment(body: Sequence[str]) -> str:
    """Return HTML for a cell of a notebook: in its colours, light or dark, and styling nothing around it."""
    rules = "".join(f".zoo-result {rule}" for rule in FRAGMENT)
    return f'<div class="zoo-result"><style>{rules}</style>{"".join(body)}</div>'


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, kind: str = "") -> str:
    """Return a table that scrolls by itself where it is wider than the page.

    Args:
        columns: Their names; all empty where the table needs none.
        rows: A cell is `Markup`, or anything that is told as text.
        kind: A class for the style.
    """
    head = f"<tr>{''.join(f'<th>{escape(c)}</th>' for c in columns)}</tr>" if any(columns) else ""
    cells = "".join(f"<tr>{''.join(f'<td>{told(v)}</td>' for v in row)}</tr>" for row in rows)
    return f'<div class="scroll" tabindex="0"><table class="{kind}">{head}{cells}</table></div>' if rows else ""


def folded(title: str, content: str) -> str:
    """Return HTML that a click unfolds; on paper it is there."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>" if content else ""


def told(value: object) -> str:
    """Return HTML of a value."""
    return value if isinstance(value, Markup) else escape(str(value))
