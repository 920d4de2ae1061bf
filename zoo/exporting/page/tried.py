"""The part of an artifact's page on speed, size, and what else was tried: plot and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pydantic import TypeAdapter

from zoo.contracts.plugins import Made
from zoo.evaluation.figures import megabytes, percent, signed
from zoo.evaluation.page import Markup, folded, table
from zoo.exporting.page.plots import Mark, key, scatter, strip
from zoo.records.facts import resize_told

if TYPE_CHECKING:
    from zoo.contracts.plugins import Attempt
    from zoo.records.manifest import Latency, Manifest, Report


COSTS = ("speed", "size", "s")
IMPORTANT = ("file", "base", "chosen", "tried")
"""Kinds of marks: these come first where labels are short of room."""
CHOSEN = "chosen"
"""The verdict of a candidate that became the file."""
SHORTEST = 1e-6
"""Milliseconds: a plot has no place for a latency of 0."""


class Tried(NamedTuple):
    """One candidate, numbered as plot and table name it."""

    number: int
    precision: str
    attempt: Attempt
    in_vain: bool = False
    """Whether its precision was refused, and the file is of another."""

    @property
    def verdict(self) -> str:
        """What became of it."""
        return f"{CHOSEN}, then refused" if self.in_vain and self.attempt.verdict == CHOSEN else self.attempt.verdict


def told_by_exporter(manifest: Manifest) -> Made:
    """Return what the exporter told of its file."""
    return TypeAdapter(Made).validate_python(manifest.made)


def all_tried(manifest: Manifest) -> list[Tried]:
    """Return the candidates in the order they were tried: first those of a precision that was refused."""
    refused = manifest.instead_of
    before = TypeAdapter(Made).validate_python(refused.made).attempts if refused else ()
    found = [(refused.precision, attempt, True) for attempt in before] if refused else []
    found += [(manifest.precision, attempt, False) for attempt in told_by_exporter(manifest).attempts]
    return [Tried(number, *rest) for number, rest in enumerate(found, 1)]


def speed_and_size(manifest: Manifest) -> list[str]:
    """Return the plot, and latency and size beside what the file replaces."""
    marks = _marks(manifest)
    report = manifest.report
    body = ["<h2>Accuracy, latency and size</h2>"]
    if len(marks) > 1:
        budget, base = report.max_drop, _fp32(report)
        slowest = base / report.min_speedup if report.min_speedup and report.latency_ms else None
        unit = "latency of one image in ms, less is better (logarithmic)" if report.latency_ms else "latency, fp32 = 1"
        title = "exact match" if manifest.multi_label else "top-1"
        numbers = " Numbers, where there is room, are those of the table below." if all_tried(manifest) else ""
        body += [
            f'<p class="faint">Points of {title} against eager fp32; the green area is what is allowed.{numbers}</p>',
            scatter(marks, budget=budget, slowest=slowest, unit=unit),
            key(marks),
        ]
    columns = ["one image at a time", "p50, ms", "p95, ms", "speed", "size"]
    body.append(table(columns, _timings(report, manifest.precision), kind="numbers") or "<p>It was not timed.</p>")
    if report.resize:
        body.append(f"<p>That is for prepared pixels. The resize in the graph: {resize_told(report.resize)}.</p>")
    return body


def what_was_tried(manifest: Manifest) -> list[str]:
    """Return the table of all candidates; nothing where there was no search."""
    tried = all_tried(manifest)
    if not tried:
        return []
    judged_by = "exact match" if manifest.multi_label else "top-1"
    columns = ["#", "candidate", "verdict", judged_by, "points", "same class", "cosine", "worst tenth", *COSTS]
    images = sorted({one.attempt.score.images for one in tried if one.attempt.score})
    judged = f", judged on {' or '.join(map(str, images))} images" if images else ""
    seconds = sum(one.attempt.seconds for one in tried)
    return [
        "<h2>What was tried</h2>",
        f'<p class="faint">{len(tried)} candidate{"s" * (len(tried) > 1)} in {seconds:.0f} s{judged}</p>',
        table(columns, [_row(one, manifest) for one in tried], kind="tried-table"),
    ]


def what_runs_in_what(manifest: Manifest) -> list[str]:
    """Return each layer's precision; nothing where the exporter told none."""
    layers = told_by_exporter(manifest).layers
    if not layers:
        return []
    rows = table(["layer", "precision"], list(layers.items()), kind="left")
    return ["<h2>What runs in what</h2>", strip(layers), folded(f"all {len(layers)} layers", rows)]


def _marks(manifest: Manifest) -> list[Mark]:
    report, base = manifest.report, _fp32(manifest.report)
    own = report.latency_ms.get("artifact")
    marks = [_file(report, own)] if own else []
    marks += [_base(name, max(timing.p50, SHORTEST)) for name, timing in _baselines(report).items()]
    for one in all_tried(manifest):
        score, speed = one.attempt.score, one.attempt.speedup
        if score and speed and speed > 0:
            change, kind = -score.drop, "chosen" if one.verdict == CHOSEN else "tried"
            detail = f"{one.number}: {one.precision} {one.attempt.name}, {one.verdict}: {signed(change)} points"
            latency = max(base / speed, SHORTEST)
            marks.append(Mark(latency=latency, change=change, text=str(one.number), kind=kind, detail=detail))
    return sorted(marks, key=lambda mark: IMPORTANT.index(mark.kind))


def _file(report: Report, own: Latency) -> Mark:
    low, high = report.drop_interval
    return Mark(
        latency=max(own.p50, SHORTEST),
        change=-report.drop,
        text="this file",
        kind="file",
        detail=f"this file: {signed(-report.drop)} points, {own.p50:.3f} ms",
        interval=(-high, -low),
    )


def _base(name: str, latency: float) -> Mark:
    return Mark(latency=latency, change=0.0, text=name, kind="base", detail=f"{name}: {latency:.3f} ms")


def _fp32(report: Report) -> float:
    """Return the milliseconds of fp32 in the same runtime; 1 where nothing was timed."""
    timing = report.latency_ms.get("fp32")
    return max(timing.p50, SHORTEST) if timing else 1.0


def _baselines(report: Report) -> dict[str, Latency]:
    """Return what the file replaces, each once: title -> latency."""
    there = {name: timing for name, timing in report.latency_ms.items() if timing}
    own, common = there.get("fp32"), there.get("onnxruntime_fp32")
    found = {}
    if own and own != there.get("artifact"):
        found["fp32, onnxruntime" if own == common else "fp32, same runtime"] = own
    if common and common not in (own, there.get("artifact")):
        found["fp32, onnxruntime"] = common
    if "eager_fp32" in there:
        found["fp32, PyTorch"] = there["eager_fp32"]
    return found


def _timings(report: Report, precision: str) -> list[list[str]]:
    rows = []
    own, base = report.latency_ms.get("artifact"), _fp32(report)
    if own:
        speed = f"{report.speedup:.2f}x" if report.speedup else ""
        size = megabytes(report.size_bytes)
        rows.append([f"this file, {precision}", f"{own.p50:.3f}", f"{own.p95:.3f}", speed, size])
    for name, timing in _baselines(report).items():
        # The size that the report holds is that of fp32 in the same format.
        same = name == next(iter(_baselines(report))) and precision != "fp32"
        size = megabytes(report.fp32_size_bytes) if same else ""
        speed = f"{base / timing.p50:.2f}x" if timing.p50 else ""
        rows.append([name, f"{timing.p50:.3f}", f"{timing.p95:.3f}", speed, size])
    return rows


def _row(one: Tried, manifest: Manifest) -> list[object]:
    attempt, score = one.attempt, one.attempt.score
    name = f"{one.precision}: {attempt.name}" if manifest.instead_of else attempt.name
    judged = [""] * 5
    if score:
        judged = [percent(score.top1), signed(-score.drop), percent(score.agreement, 1)]
        judged += [f"{score.cosine:.4f}", f"{score.cosine_p10:.4f}"]
    speed = f"{attempt.speedup:.2f}x" if attempt.speedup is not None else ""
    verdict = Markup("<b>chosen</b>") if one.verdict == CHOSEN else one.verdict
    return [one.number, name, verdict, *judged, speed, megabytes(attempt.size_bytes), f"{attempt.seconds:.0f}"]
