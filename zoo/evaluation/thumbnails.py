"""Images of a proof as small pictures inside a page, each with the truth and what two models said of it."""

from __future__ import annotations

import base64
import io
from html import escape
from itertools import compress
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from zoo.evaluation.examples import is_flipped, said
from zoo.evaluation.figures import percent
from zoo.evaluation.labels import answered, held, right

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zoo.evaluation.examples import Example

SIDE = 160
"""Pixels of a thumbnail's longer side, at most."""
LOSSLESS_SIDE = 64
"""Up to this size a picture is kept to the pixel, and shown so."""
MOST_NAMES = 4
"""Of the labels of one image."""
STYLE = """
.thumbs { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.2rem, 1fr)); gap: .8rem; }
figure { margin: 0; border: 1px solid var(--line); border-radius: .5rem; overflow: hidden; break-inside: avoid; }
figure img { width: 100%; aspect-ratio: 1; object-fit: contain; display: block; background: var(--panel); }
figure img.exact { image-rendering: pixelated; }
.whole { white-space: nowrap; }
figcaption { padding: .4rem .55rem; font-size: .78rem; line-height: 1.4; overflow-wrap: anywhere; }
"""


def thumbnails(examples: Sequence[Example], classes: Sequence[str], split: str, thresholds: np.ndarray | None) -> str:
    """Return the pictures side by side.

    Args:
        examples: Any number.
        classes: The C names.
        split: Where they come from.
        thresholds: float64 [C] if an image may have several labels.
    """
    figures = "".join(_figure(example, classes, split, thresholds) for example in examples)
    return f'<div class="thumbs">{figures}</div>' if figures else ""


def _figure(example: Example, classes: Sequence[str], split: str, thresholds: np.ndarray | None) -> str:
    truth = _names(list(compress(classes, held(example.label[None], len(classes))[0])))
    lines = [f"<b>{escape(truth)}</b>"]
    if example.index is not None:
        lines[0] += f' <span class="faint">{escape(split)} #{example.index}</span>'
    lines += [
        _answer(name, probabilities, example, classes, thresholds)
        for name, probabilities in (("fp32", example.reference), ("file", example.artifact))
    ]
    if thresholds is not None:
        lines.append(_most_moved(example, classes, thresholds))
    changed = ", changed" if is_flipped(example, thresholds) else ""
    shown = picture(example.image, f"{truth}{changed}")
    return f"<figure>{shown}<figcaption>{'<br>'.join(line for line in lines if line)}</figcaption></figure>"


def _answer(
    name: str,
    probabilities: np.ndarray,
    example: Example,
    classes: Sequence[str],
    thresholds: np.ndarray | None,
) -> str:
    if not answered(probabilities[None])[0]:
        return f'{name}: <span class="bad">no answer</span>'
    good = bool(right(example.label[None], probabilities[None], thresholds)[0])
    sure = f"{percent(float(probabilities.max()), 1)} " if thresholds is None else ""
    text = escape(_names(said(probabilities, classes, thresholds)))
    mark = f'<span class="whole">{sure}{"✓" if good else "✗"}</span>'
    return f'{name}: <span class="{"good" if good else "bad"}">{text} {mark}</span>'


def _most_moved(example: Example, classes: Sequence[str], thresholds: np.ndarray) -> str:
    """Tell of the label whose probability changed most."""
    if not answered(np.stack([example.reference, example.artifact])).all():
        return ""
    label = int(np.abs(example.reference - example.artifact).argmax())
    before, after, limit = (f"{100 * p[label]:.0f}" for p in (example.reference, example.artifact, thresholds))
    return escape(f"{classes[label]}: {before} → {after} %, said from {limit}")


def _names(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return (", ".join(names[:MOST_NAMES]) or "none") + more


def picture(pixels: np.ndarray, text: str) -> str:
    """Return uint8 [H, W, 3] as an image inside the page; `text` is read where it cannot be seen."""
    image, buffer = Image.fromarray(pixels), io.BytesIO()
    exact = max(image.size) <= LOSSLESS_SIDE
    if exact:
        image.save(buffer, "PNG", optimize=True)
    else:
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        image.save(buffer, "JPEG", quality=85)
    kind, data = "png" if exact else "jpeg", base64.b64encode(buffer.getvalue()).decode()
    how = ' class="exact"' if exact else ""
    return f'<img{how} alt="{escape(text)}" src="data:image/{kind};base64,{data}">'
