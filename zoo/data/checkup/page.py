"""`check.html`: one self-contained page of findings, with some pictures of each, light and dark."""

from __future__ import annotations

import base64
import io
from html import escape
from typing import TYPE_CHECKING

from PIL import Image, ImageOps

from zoo.data.checkup.findings import ERROR, REMARK, SEVERITIES, WARNING
from zoo.data.decode import to_rgb
from zoo.evaluation.page import page

if TYPE_CHECKING:
    from zoo.contracts.plugins import Dataset
    from zoo.data.checkup.findings import Case, Checkup, Finding, Picture

SIDE = 128
"""Pixels of a picture on the page."""
MOST_CASES = {ERROR: 24, WARNING: 24, REMARK: 6}
"""Of one finding, so that the page of a very ill dataset still opens."""
MOST_PICTURES = 4
"""Of one case."""
OWN_STYLE = """
.error, .warning, .remark { font-size: .8rem; border-radius: .6rem; padding: .1rem .6rem; color: #fff; }
.error { background: #b91c1c; } .warning { background: #b45309; } .remark { background: #64748b; }
td, td:last-child { text-align: left; vertical-align: top; } h2 { scroll-margin-top: 1rem; }
.cases { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: .8rem; }
.case { border: 1px solid var(--line); border-radius: .5rem; padding: .6rem; }
.case p { margin: 0 0 .4rem; } .pictures { display: flex; flex-wrap: wrap; gap: .6rem; }
figure { margin: 0; width: 128px; } figcaption { font-size: .75rem; line-height: 1.3; overflow-wrap: anywhere; }
figure img { max-width: 128px; display: block; margin-bottom: .2rem; image-rendering: auto; }
figure.none { width: 100%; }
"""


def render_page(checkup: Checkup, dataset: Dataset) -> str:
    """Return the page.

    Args:
        checkup: What was found.
        dataset: The same one, to draw its images from.
    """

    title = f"Checkup of {checkup.dataset}"
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="faint">{escape(_contents(checkup))}</p>',
        f'<p class="big">{escape(verdict(checkup))}</p>',
        _overview(checkup),
        *(_section(finding, checkup.folder, dataset) for finding in checkup.findings),
    ]
    return page(title, body, OWN_STYLE)


def verdict(checkup: Checkup) -> str:
    """Say in one line what was found."""
    count = {severity: sum(f.severity == severity for f in checkup.findings) for severity in SEVERITIES}
    parts = [f"{number} {severity}{'s' * (number != 1)}" for severity, number in count.items() if number]
    return ", ".join(parts) or "nothing found"


def _contents(checkup: Checkup) -> str:
    kind = ", several a picture" if checkup.multi_label else ""
    place = f"; below {checkup.folder}" if checkup.folder else ""
    return f"{len(checkup.classes)} classes{kind}; images: {checkup.contents}; seed {checkup.seed}{place}"


def _overview(checkup: Checkup) -> str:
    rows = "".join(
        f'<tr><td><span class="{f.severity}">{f.severity}</span></td>'
        f'<td><a href="#{f.kind}">{escape(f.title)}</a></td><td>{escape(f.extent)}</td></tr>'
        for f in checkup.findings
    )
    return f'<div class="scroll"><table>{rows}</table></div>' if rows else ""


def _section(finding: Finding, folder: str, dataset: Dataset) -> str:
    shown = finding.cases[: MOST_CASES[finding.severity]]
    more = len(finding.cases) - len(shown)
    return "".join(
        [
            f'<h2 id="{finding.kind}"><span class="{finding.severity}">{finding.severity}</span> ',
            f"{escape(finding.title)}: {escape(finding.extent)}</h2>",
            f'<p>{escape(finding.advice)} <span class="faint">({finding.kind})</span></p>',
            '<div class="cases">',
            *(_case(case, folder, dataset) for case in shown),
            "</div>",
            f'<p class="faint">and {more:,} more; <code>zoo data check --json</code> names all</p>' if more else "",
        ]
    )


def _case(case: Case, folder: str, dataset: Dataset) -> str:
    shown = case.pictures[:MOST_PICTURES]
    more = len(case.pictures) - len(shown)
    figures = "".join(_figure(picture, folder, dataset) for picture in shown)
    rest = f'<p class="faint">and {more:,} more</p>' if more else ""
    return f'<div class="case"><p>{escape(case.detail)}</p><div class="pictures">{figures}</div>{rest}</div>'


def _figure(picture: Picture, folder: str, dataset: Dataset) -> str:
    source = "" if picture.look.fault else _data_uri(dataset, picture)
    drawn = f'<img src="{source}" alt="">' if source else ""
    size = f"<br>{picture.look.width} x {picture.look.height}" if picture.look.width else ""
    text = f"<b>{escape(picture.split)}</b> / {escape(picture.label)}{size}<br>{escape(picture.name(folder))}"
    return f'<figure class="{"" if drawn else "none"}">{drawn}<figcaption>{text}</figcaption></figure>'


def _data_uri(dataset: Dataset, picture: Picture) -> str:
    try:
        rgb = to_rgb(dataset.splits[picture.source_split].images[picture.source_index])
    except Exception:  # it was whole a moment ago; a page without it is better than none
        return ""
    small = ImageOps.contain(Image.fromarray(rgb), (SIDE, SIDE), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
