"""`report.html` of a run: one self-contained page, light and dark, verdict first."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from zoo.evaluation.figures import SHARES, TITLES, class_table, figure, headline, summary
from zoo.evaluation.page import fragment, page, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from zoo.records.record import RunRecord

CURVES = {"train": "var(--second)", "val": "var(--accent)"}
MAX_MATRIX_CLASSES = 40


def render_report(name: str, record: RunRecord, epochs: Sequence[Mapping[str, Any]]) -> str:
    """Return the page.

    Args:
        name: Of the run.
        record: What run.json will hold.
        epochs: The lines of metrics.jsonl.
    """
    test = record.metrics["test"]
    judged = headline(test)
    body = [
        f"<h1>{escape(name)}</h1>",
        f'<p class="faint">{escape(record.model)} on {escape(record.dataset)}, {record.created[:16]} UTC</p>',
        f'<p class="big">{figure(judged, test[judged])} {TITLES[judged]}</p>',
        f'<p class="faint">on {test["images"]} test images that training never saw</p>',
        _splits(record),
        "<h2>Training</h2>",
        _kept(record),
        _curves(epochs),
        "<h2>Classes, on test</h2>",
        _classes(test["per_class"]),
        _confusion(list(test["per_class"]), test["confusion"]) if "confusion" in test else "",
        "<h2>How it was made</h2>",
        _settings(record),
        _skipped(record),
    ]
    return page(name, body)


def run_fragment(path: Path, record: RunRecord, epochs: Sequence[Mapping[str, Any]]) -> str:
    """Return what a notebook shows of a finished run."""
    test = record.metrics["test"]
    judged = headline(test)
    body = [
        f'<p class="big">{figure(judged, test[judged])} {TITLES[judged]}</p>',
        f'<p class="faint">{escape(str(path))}: {escape(record.model)} on {escape(record.dataset)}, '
        f"{test['images']} test images that training never saw</p>",
        _splits(record),
        _kept(record),
        _curves(epochs) if epochs else "",
    ]
    return fragment(body)


def _curves(epochs: Sequence[Mapping[str, Any]]) -> str:
    shares = [_curve(f"{TITLES[key]}, %", epochs, key, 100.0) for key in SHARES if f"val_{key}" in epochs[0]]
    return f'<div class="curves">{"".join([_curve("loss", epochs, "loss", 1.0), *shares])}</div>'


def _splits(record: RunRecord) -> str:
    told = {split: summary(record.metrics[split]) for split in ("val", "test")}
    return table(["split", *told["val"]], [(split, *figures.values()) for split, figures in told.items()])


def _kept(record: RunRecord) -> str:
    best, blend = record.metrics.get("best_epoch"), record.metrics.get("blend")
    if best is None:
        return ""
    if blend:
        way = f"The weights {blend:.0%} of the way from the fitted classifier to the last epoch are kept"
        return f'<p class="faint">{way}: on the val images no epoch is better by more than one standard error.</p>'
    told = (
        f"The weights of epoch {best} are kept."
        if best
        else "The classifier that was fitted before the first epoch is kept: no epoch was better on the val images."
    )
    return f'<p class="faint">{told}</p>'


def _curve(title: str, epochs: Sequence[Mapping[str, Any]], key: str, scale: float) -> str:
    """Draw train and val, or the one that has this figure, over the epochs as one SVG."""
    width, height, left, top, bottom = 420, 230, 44, 26, 24
    there = [name for name in CURVES if f"{name}_{key}" in epochs[0]]
    values = {name: [scale * float(line[f"{name}_{key}"]) for line in epochs] for name in there}
    low, high = min(map(min, values.values())), max(map(max, values.values()))
    span = (high - low) or 1.0

    def place(index: int, value: float) -> str:
        x = left + (width - left - 8) * index / max(len(epochs) - 1, 1)
        return f"{x:.1f},{top + (height - bottom - top) * (high - value) / span:.1f}"

    lines = "".join(
        f'<polyline fill="none" style="stroke:{CURVES[name]}" stroke-width="2" '
        f'points="{" ".join(place(i, v) for i, v in enumerate(series))}"/>'
        for name, series in values.items()
    )
    if len(epochs) == 1:  # a line of one epoch has no length
        lines = "".join(
            f'<circle r="3" style="fill:{CURVES[name]}" cx="{left + 4}" cy="{place(0, value).partition(",")[2]}"/>'
            for name, (value,) in values.items()
        )
    legend = "".join(
        f'<text x="{width - 90 + 42 * i}" y="14" style="fill:{colour}">{name}</text>'
        for i, (name, colour) in enumerate(CURVES.items())
    )
    axis = (
        f'<path d="M{left},{top} V{height - bottom} H{width - 8}" fill="none" stroke="currentColor" opacity=".3"/>'
        f'<text x="{left - 4}" y="{top + 6}" text-anchor="end">{high:.3g}</text>'
        f'<text x="{left - 4}" y="{height - bottom}" text-anchor="end">{low:.3g}</text>'
        f'<text x="{left}" y="{height - 6}">epoch {epochs[0]["epoch"]}</text>'
        f'<text x="{width - 8}" y="{height - 6}" text-anchor="end">{epochs[-1]["epoch"]}</text>'
    )
    label = f'<text x="{left}" y="14">{escape(title)}</text>'
    drawing = f"{axis}{lines}{label}{legend}"
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">{drawing}</svg>'


def _classes(per_class: Mapping[str, Mapping[str, float]]) -> str:
    columns, rows = class_table(dict(sorted(per_class.items(), key=lambda item: item[1]["f1"])))
    return table(["class (worst first)", *columns[1:]], rows)


def _confusion(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    return f"<h2>What was taken for what, on test</h2>{confusion_table(classes, counts)}"


def confusion_table(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """Return images of [true][predicted] as a coloured table, or the usual mistakes where that would be too large."""
    draw = _mistakes if len(classes) > MAX_MATRIX_CLASSES else _matrix
    return draw(classes, counts)


def _mistakes(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    pairs = [(n, i, j) for i, row in enumerate(counts) for j, n in enumerate(row) if n and i != j]
    rows = [(classes[i], classes[j], n) for n, i, j in sorted(pairs, reverse=True)[:MAX_MATRIX_CLASSES]]
    return table(["true", "taken for", "images"], rows)


def _matrix(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    head = "".join(f"<th>{escape(c)}</th>" for c in classes)
    body = "".join(
        f"<tr><td>{escape(name)}</td>{''.join(_cell(n, max(sum(row), 1), i == j) for j, n in enumerate(row))}</tr>"
        for i, (name, row) in enumerate(zip(classes, counts, strict=True))
    )
    return f'<div class="scroll"><table class="matrix"><tr><th>true \\ predicted</th>{head}</tr>{body}</table></div>'


def _cell(count: int, total: int, right: bool) -> str:
    colour = "37, 99, 235" if right else "220, 38, 38"
    shade = f' style="background: rgba({colour}, {0.15 + 0.65 * count / total:.2f})"' if count else ""
    return f"<td{shade}>{count or ''}</td>"


def _settings(record: RunRecord) -> str:
    rows = [(key, value, record.origins.get(key, "")) for key, value in record.config.items() if value not in ("", {})]
    made = {**record.chosen, **record.versions, "dataset fingerprint": record.dataset_fingerprint[:16]}
    return table(["option", "value", "origin"], rows) + table(["made with", ""], list(made.items()))


def _skipped(record: RunRecord) -> str:
    if not record.skipped_images:
        return ""
    return f"<h2>{len(record.skipped_images)} images left out</h2>" + table(
        ["image", "why"], list(record.skipped_images.items())
    )
