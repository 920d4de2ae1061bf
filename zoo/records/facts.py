"""What a person reads of an artifact's proof, on a terminal and in a notebook: the verdict, a line for each fact."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

from zoo.contracts.verdict import UNPROVEN
from zoo.evaluation.figures import megabytes, percent
from zoo.evaluation.page import fragment, table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from zoo.records.manifest import Manifest, Report, ResizeCost, Stressed

Fact = tuple[str, str]
"""What it is, and what it comes to."""


def verdict(manifest: Manifest, report: Report) -> str:
    """Return the line above all others."""
    told = (report.verdict or "accepted") if report.accepted else "REFUSED"
    return f"{manifest.format} {manifest.precision}: {told} on {report.images} {report.split} images"


def weight(report: Report) -> str:
    """Return how a verdict is to be taken: good, heed (it needs more images) or bad."""
    if not report.accepted:
        return "bad"
    return "heed" if report.verdict == UNPROVEN else "good"


def doubt(report: Report) -> str:
    """Say what so few images leave open, and how many would do; empty of another verdict."""
    if report.verdict != UNPROVEN or report.bound is None:
        return ""
    told = f"{report.images} images cannot exclude a loss of {_up(report.bound)} points (allowed {report.max_drop:g})"
    if report.images_needed is None:
        return f"{told}: no number of images proves that nothing is lost; allow something with --max-drop"
    changed = "without a change" if not report.flips else "without another change"
    return f"{told}; {report.images_needed:,} {changed} would"


def facts(manifest: Manifest, report: Report) -> list[Fact]:
    """Return what was measured."""
    said = (_accuracy(manifest, report), _evidence(report), _honesty(manifest, report), _difference(report))
    return [fact for part in (*said, _cost(report)) for fact in part]


def remarks(manifest: Manifest, report: Report) -> list[str]:
    """Return what else should be known, a sentence each."""
    said = [*manifest.made.get("notes", ())]
    if not report.on_target:
        said.append(f"latency is this machine's, not that of {manifest.target}: prove it again on the device")
    said += [doubt(report)] if doubt(report) else []
    return said + [f"refused: {reason}" for reason in report.reasons]


def making(manifest: Manifest) -> list[str]:
    """Return what was done before the proof and is worth a sentence: pruning, or another precision than was asked."""
    said = []
    if cut := manifest.pruning:
        said.append(
            f"pruned by {cut.share:g}: {_megas(cut.parameters)} of {_megas(cut.parameters_before)} parameters, "
            f"{_megas(cut.macs)} of {_megas(cut.macs_before)} multiplications, {cut.epochs} epochs after"
        )
    if instead := manifest.instead_of:
        said += [
            f"{instead.precision} was refused: {'; '.join(instead.reasons)}",
            f"{manifest.precision} was made instead",
        ]
    return said


def proof_fragment(path: Path, manifest: Manifest) -> str:
    """Return what a notebook shows of an artifact."""
    report = manifest.report
    lines = "".join(f"<p>{escape(line)}</p>" for line in (*making(manifest), *remarks(manifest, report)))
    body = [
        f'<p class="big {weight(report)}">{escape(verdict(manifest, report))}</p>',
        f'<p class="faint">{escape(str(path))}</p>',
        table(("", ""), facts(manifest, report)),
        lines,
    ]
    return fragment(body)


def resize_told(cost: ResizeCost) -> str:
    """Tell what resizing inside the file costs."""
    added = f"{cost.milliseconds:.2f} ms" if cost.milliseconds > 0 else "lost in noise"
    size = f"{cost.width} x {cost.height}, the median image"
    return f"{added} at {size} ({cost.file.p50:.2f} in all; Pillow {cost.pillow.p50:.2f})"


def _accuracy(manifest: Manifest, report: Report) -> Iterator[Fact]:
    share = "exact match" if manifest.multi_label else "top-1"
    yield f"{share}, eager fp32", percent(report.reference_top1)
    yield f"{share}, this file", percent(report.artifact_top1)
    yield "drop", f"{report.drop:.2f} points ({bounded(report)}; allowed {report.max_drop:g})"
    if report.reference_map is not None and report.artifact_map is not None:
        yield "mAP, eager fp32", percent(report.reference_map)
        yield "mAP, this file", percent(report.artifact_map)
        yield "drop of mAP", f"{report.map_drop:.2f} points (allowed {report.max_drop:g})"
    yield "flips", f"{report.flips} of {report.images}"
    if near := report.fidelity:
        yield "cosine of the logits", f"{near.cosine:.4f} (worst tenth {near.cosine_p10:.4f})"


def bounded(report: Report) -> str:
    """Say how far the drop may reach."""
    if report.bound is None:
        low, high = report.drop_interval
        return f"95 %: {low:.2f} to {high:.2f}"
    return f"at most {_up(report.bound)} with {100 * report.confidence:g} % confidence"


def _evidence(report: Report) -> Iterator[Fact]:
    """Tell how the file does on the images that chose it, and whose answers stay where nobody needs a label."""
    if chose := report.selection:
        yield f"on {chose.split}, which chose it", f"{percent(chose.artifact_top1)}, drop {chose.drop:.2f} points"
    for name, found in report.agreement.items():
        told = f"{found.images - found.changed} of {found.images} (at most {_up(found.bound)} % change)"
        yield f"answers of fp32 kept, {name}", told


def _lost(row: Stressed) -> float:
    """Return the points that a corruption costs more than it costs eager fp32."""
    return 100 * (sum(row.reference_top1) - sum(row.artifact_top1)) / len(row.reference_top1)


def _up(points: float) -> str:
    """Round a bound up, so that what is told holds as well."""
    return f"{math.ceil(100 * points - 1e-9) / 100:.2f}"


def _honesty(manifest: Manifest, report: Report) -> Iterator[Fact]:
    """Tell how far probabilities, and what is called unknown, can be believed."""
    if report.reference_ece is not None and report.artifact_ece is not None:
        yield "calibration error", f"{percent(report.artifact_ece)} (eager fp32 {percent(report.reference_ece)})"
    if found := manifest.temperature:
        parts = [f"{name} {percent(found.ece_before[name])} to {percent(e)}" for name, e in found.ece_after.items()]
        yield f"by the temperature {found.value:.3f}", f"{', '.join(parts)} (eager fp32)"
    if manifest.unknown and report.artifact_unknown is not None:
        shares = manifest.unknown.known_called_unknown.items()
        told = ", ".join(f"{name} {percent(share)}" for name, share in shares)
        asked = f"asked for {percent(manifest.unknown.rate)}"
        yield "known images called unknown", f"{percent(report.artifact_unknown)} ({asked}; eager fp32 {told})"


def _difference(report: Report) -> Iterator[Fact]:
    yield "largest probability difference", f"{report.max_probability_difference:.2g}"
    if report.stress_drop is not None:
        worst = max(report.stress, key=lambda name: _lost(report.stress[name]))
        allowed = "" if report.max_stress_drop is None else f"; allowed {report.max_stress_drop:g}"
        told = f"{report.stress_drop:.2f} points lost (most by {worst}, {_lost(report.stress[worst]):.1f}{allowed})"
        yield f"{len(report.stress)} corruptions, beside fp32", told
    if report.saturates is not None:
        told = "no, unless it is told to be exact, which is slower" if report.saturates else "the same, at full speed"
        yield "x86 with and without VNNI", told
    if agreement := report.against_onnxruntime_fp32:
        told = f"{agreement.flips} flips, difference {agreement.max_probability_difference:.2g}"
        yield "against fp32 ONNX", told


def _cost(report: Report) -> Iterator[Fact]:
    yield "size", f"{megabytes(report.size_bytes)} (fp32 {megabytes(report.fp32_size_bytes or report.size_bytes)})"
    for name, timing in report.latency_ms.items():
        if timing:
            yield f"latency, {name.replace('_', ' ')}", f"{timing.p50:.3f} ms (p95 {timing.p95:.3f})"
    if report.resize:
        yield "resize in the graph", resize_told(report.resize)
    if report.speedup is not None:
        yield "speed over fp32, same runtime", f"{report.speedup:.2f}x, {report.threads} thread(s), batch 1"


def _megas(count: int) -> str:
    return f"{count / 1e6:.2f} M"
