"""`report.html` of an artifact: its proof as one self-contained page, light and dark, verdict first."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from zoo.contracts.verdict import REFUSED
from zoo.evaluation import thumbnails
from zoo.evaluation.examples import Example
from zoo.evaluation.figures import megabytes, percent, signed
from zoo.evaluation.labels import thresholds_of
from zoo.evaluation.page import Markup, folded, page, table
from zoo.evaluation.thumbnails import thumbnails as pictures
from zoo.exporting.page import plots as export_plots
from zoo.exporting.page.plots import dumbbell, interval
from zoo.exporting.page.stress import STYLE as STRESS_STYLE
from zoo.exporting.page.stress import under_stress
from zoo.exporting.page.tried import speed_and_size, told_by_exporter, what_runs_in_what, what_was_tried
from zoo.records.artifact import PAGE
from zoo.records.facts import bounded, doubt, weight

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from zoo.records.golden import Golden
    from zoo.records.manifest import ClassChange, Manifest, Report

GOLDEN_SHOWN = 6
UNMEASURED = 1e6
"""What a report tells of the difference of logits where there was no answer."""
OPEN_CLASSES = 25
"""Of the table of classes; the others unfold."""
STYLE = (
    """
.good { color: var(--good); } .bad { color: var(--bad); } .heed { color: var(--heed); } .big { line-height: 1.2; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .7rem; margin: 1.2rem 0; }
.tile { background: var(--panel); border-radius: .5rem; padding: .6rem .8rem; break-inside: avoid; }
.tile b { display: block; font-size: 1.3rem; line-height: 1.3; } .tile span { color: var(--faint); font-size: .85rem; }
.note { border-left: 3px solid var(--line); padding: .1rem 0 .1rem .8rem; margin: .7rem 0; overflow-wrap: anywhere; }
.note.bad { border-color: var(--bad); color: inherit; } .note.heed { border-color: var(--heed); color: inherit; }
.numbers td + td { white-space: nowrap; } .numbers td:first-child { min-width: 7.5rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
.facts td:last-child, .left td, .left th { text-align: left; overflow-wrap: anywhere; }
.facts td { vertical-align: top; } .facts td:first-child { color: var(--faint); width: 14rem; }
.tried-table td:nth-child(2), .tried-table th:nth-child(2), .tried-table td:nth-child(3), .tried-table th:nth-child(3)
{ text-align: left; } .tried-table td:nth-child(n+4) { white-space: nowrap; }
.tried-table td:nth-child(2), .tried-table td:nth-child(3) { min-width: 9rem; } .tried-table { font-size: .85rem; }
.dumbbell { width: 7.5rem; display: block; } .legend { font-size: .85rem; margin: .2rem 0 .8rem; }
.key { margin-right: 1.1rem; white-space: nowrap; } .dot { width: .8rem; height: .8rem; margin-right: .35rem; }
"""
    + export_plots.STYLE
    + STRESS_STYLE
    + thumbnails.STYLE
)


def render_export(manifest: Manifest, golden: Golden, flipped: Sequence[Example], moved: Sequence[Example]) -> str:
    """Return the page; the same artifact gives the same bytes.

    Args:
        manifest: What artifact.json will hold; the checksum of the page itself is left out.
        golden: The golden images and answers.
        flipped: Some of the images whose answer changed, the worst first.
        moved: Some that kept their answer, those that moved most first.
    """
    title = f"{manifest.lineage.get('run', '')}/{manifest.format}-{manifest.precision}".lstrip("/")
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="faint">{escape(_origin(manifest))}</p>',
        *_verdict(manifest),
        _tiles(manifest.report),
        *_accuracy(manifest),
        *speed_and_size(manifest),
        *what_was_tried(manifest),
        *what_runs_in_what(manifest),
        *under_stress(manifest.report),
        *_classes(manifest),
        *_images(manifest, golden, flipped, moved),
        *_made(manifest),
    ]
    return page(title, body, STYLE)


def _origin(manifest: Manifest) -> str:
    made = f"{manifest.format} {manifest.precision} for {manifest.target}"
    by, at = manifest.lineage.get("exporter"), str(manifest.lineage.get("created", ""))[:16].replace("T", " ")
    return made + (f", by {by}" if by else "") + (f", {at} UTC" if at else "")


def _verdict(manifest: Manifest) -> list[str]:
    report, instead = manifest.report, manifest.instead_of
    mark = {"good": "✓", "heed": "○", "bad": "✗"}[weight(report)]
    verdict = (report.verdict or ("accepted" if report.accepted else REFUSED)).capitalize()
    body = [
        f'<p class="big {weight(report)}">{mark} {verdict}</p>',
        f'<p class="faint">measured on {report.images} images of {escape(report.split)}, in its own runtime</p>',
        *([f'<p class="note heed">{escape(doubt(report).capitalize())}.</p>'] if doubt(report) else []),
        *(f'<p class="note bad">Refused: {escape(reason)}</p>' for reason in report.reasons),
    ]
    if instead:
        why = f"{instead.precision} was asked for and refused: {'; '.join(instead.reasons)}."
        body.append(f'<p class="note heed">{escape(f"{why} {manifest.precision} was made instead.")}</p>')
    if not report.on_target:
        text = f"Latency is that of the machine below, not of {manifest.target}: prove it again on the device."
        body.append(f'<p class="note heed">{escape(text)}</p>')
    return body + [f'<p class="note">{escape(line)}</p>' for line in told_by_exporter(manifest).notes]


def _tiles(report: Report) -> str:
    before, after = report.fp32_size_bytes or 0, report.size_bytes
    smaller = f", {before / after:.1f}x smaller" if before > after > 0 else ""
    tiles = {
        "exact match" if report.reference_map is not None else "top-1": percent(report.artifact_top1),
        f"points, {-report.max_drop:g} allowed": signed(-report.drop),
        f"of {report.images} answers changed": str(report.flips),
        **({"the speed of fp32": f"{report.speedup:.2f}x"} if report.speedup is not None else {}),
        f"in size{smaller}": megabytes(after),
    }
    cells = "".join(f'<div class="tile"><b>{escape(v)}</b><span>{escape(k)}</span></div>' for k, v in tiles.items())
    return f'<div class="tiles">{cells}</div>'


def _accuracy(manifest: Manifest) -> list[str]:
    report = manifest.report
    low, high = report.drop_interval
    title = "exact match" if manifest.multi_label else "top-1"
    rows = [[title, percent(report.reference_top1), percent(report.artifact_top1), f"{signed(-report.drop)} points"]]
    if report.reference_map is not None and report.artifact_map is not None:
        change = f"{signed(-(report.map_drop or 0.0))} points"
        rows.append(["mAP", percent(report.reference_map), percent(report.artifact_map), change])
    if report.reference_ece is not None and report.artifact_ece is not None:
        rows.append(["expected calibration error", percent(report.reference_ece), percent(report.artifact_ece), ""])
    if report.reference_unknown is not None and report.artifact_unknown is not None:
        shares = [percent(report.reference_unknown), percent(report.artifact_unknown)]
        rows.append(["known images called unknown", *shares, f"{report.unknown_flips} images"])
    return [
        "<h2>Accuracy</h2>",
        table(["", "eager fp32", "this file", "change"], rows, kind="numbers"),
        f"<p>It {'gained' if report.drop < 0 else 'lost'} {abs(report.drop):.2f} points of {title} "
        f"({bounded(report)}); {report.max_drop:g} may be lost. The line shows the two-sided 95 % interval.</p>",
        interval(report.drop, low, high, report.max_drop),
        _facts({**_chosen(report), **_fidelity(report), **_answers(manifest)}),
    ]


def _chosen(report: Report) -> dict[str, str]:
    """Return how the file does on the images that chose it: choosing flatters."""
    if not report.selection:
        return {}
    found = report.selection
    told = f"{percent(found.artifact_top1)} of {found.images}, {signed(-found.drop)} points beside eager fp32"
    return {f"on {found.split}, by whose images it was chosen": told}


def _fidelity(report: Report) -> dict[str, str]:
    """Return how close the answers are to the reference's."""
    facts = {f"answers changed, {report.split}": f"{report.flips} of {report.images}"}
    for name, found in report.agreement.items():
        if name != report.split:
            facts[f"answers changed, {name}"] = f"{found.changed} of {found.images}"
    if report.fidelity:
        near = report.fidelity
        facts["cosine of the logits"] = f"{near.cosine:.4f} (median), {near.cosine_p10:.4f} (10th percentile)"
        if near.logit_difference < UNMEASURED:
            facts["difference of the logits"] = f"{near.logit_difference:.3g} of their usual size (median)"
    facts["largest difference of a probability"] = f"{report.max_probability_difference:.2g}"
    if report.batches:
        told = ", ".join(f"{difference:.2g} in a batch of {size}" for size, difference in report.batches.items())
        facts["the same asked in other batches"] = f"probabilities differ by {told}"
    if report.control:
        facts["control"] = (
            f"the reference itself, its input moved by the least that fp32 can hold: {report.control.flips} answers "
            f"changed, probabilities by {report.control.max_probability_difference:.2g}"
        )
    if report.elsewhere:
        there = report.elsewhere
        facts["on another kind of processor"] = (
            f"rounding may change {there.flips} of {there.images} answers, probabilities by "
            f"{there.max_probability_difference:.2g}"
        )
    if report.saturates is not None:
        facts["x86 without VNNI"] = (
            "sums of neighbouring products may saturate: zoo's runtime computes it exactly there, at a cost of speed; "
            "others must be told (session.x64quantprecision)"
            if report.saturates
            else "the same sums at full speed: no two neighbouring products pass 16 bits"
        )
    if report.against_onnxruntime_fp32:
        other = report.against_onnxruntime_fp32
        facts["beside the fp32 ONNX file"] = (
            f"{other.flips} answers changed, probabilities by {other.max_probability_difference:.2g}"
        )
    return facts


def _answers(manifest: Manifest) -> dict[str, str]:
    """Return how probabilities were calibrated, and what counts as unknown."""
    facts = {}
    if manifest.temperature:
        found = manifest.temperature
        told = ", ".join(f"{percent(found.ece_before[s])} to {percent(e)} on {s}" for s, e in found.ece_after.items())
        facts["calibration"] = (
            f"temperature {found.value:.3f}, fitted on {found.split}; it took the error of eager fp32 from {told}"
        )
    if manifest.unknown:
        rule = manifest.unknown
        facts["unknown"] = (
            f"where {rule.by} lies below {rule.threshold:.4g}: chosen on {rule.split} so that {percent(rule.rate)} of "
            "the known images may be called so"
        )
    return facts


def _classes(manifest: Manifest) -> list[str]:
    changes = manifest.report.per_class
    if not changes:
        return []
    order = sorted(changes, key=lambda name: (_gain(changes[name]), name))
    rows = [_class(name, changes[name]) for name in order]
    columns = ["class (worst change first)", "images", "fp32", "this file", "points", ""]
    shown = rows[:OPEN_CLASSES] if any(map(_gain, changes.values())) else []
    rest = rows[len(shown) :]
    return [
        "<h2>Classes</h2>",
        '<p class="faint">The share of its images in which a class is recognised, before (hollow) and after.</p>',
        table(columns, shown, kind="numbers") or "<p>No class changed.</p>",
        folded(f"{len(rest)} {'more ' * bool(shown)}classes", table(columns, rest, kind="numbers")),
    ]


def _gain(change: ClassChange) -> float:
    return change.artifact_top1 - change.reference_top1


def _class(name: str, change: ClassChange) -> list[object]:
    points = 100 * _gain(change)
    shares = [percent(change.reference_top1, 1), percent(change.artifact_top1, 1)]
    return [name, change.images, *shares, f"{points:+.1f}" if points else "", Markup(dumbbell(change))]


def _images(manifest: Manifest, golden: Golden, flipped: Sequence[Example], moved: Sequence[Example]) -> list[str]:
    thresholds = thresholds_of(manifest)
    report = manifest.report
    known = [
        Example(image=image, label=label, reference=reference, artifact=artifact)
        for image, label, reference, artifact in zip(
            golden.images, golden.labels, golden.reference, golden.artifact, strict=True
        )
    ]
    groups = [
        (f"{len(flipped)} of {report.flips} whose answer changed", flipped, "No answer changed."),
        ("The same answer, but the largest change of a probability", moved, ""),
        (f"Golden images, {min(GOLDEN_SHOWN, len(known))} of {len(known)}", known[:GOLDEN_SHOWN], ""),
    ]
    body = ["<h2>Images, as the file takes them</h2>"]
    for title, shown, none in groups:
        if shown:
            body += [f"<h3>{title}</h3>", pictures(shown, manifest.classes, report.split, thresholds)]
        elif none:
            body.append(f"<p>{none}</p>")
    return body


def _made(manifest: Manifest) -> list[str]:
    lineage = dict(manifest.lineage)
    versions = lineage.pop("versions", {})
    groups: list[tuple[str, Mapping[str, object]]] = [
        ("Lineage", lineage),
        ("Licences", {name: told or "not known" for name, told in manifest.licenses.items()}),
        ("Options", manifest.options),
        ("Session options that the runtime must set", manifest.session),
        ("Preprocessing" + (", done by the file" if manifest.resize_in_graph else ""), manifest.preprocess),
        ("Machine", {**manifest.report.machine, "threads": manifest.report.threads or "as many as the runtime takes"}),
        ("Versions", versions),
        ("Files, SHA-256", {name: digest for name, digest in manifest.files.items() if name != PAGE}),
    ]
    body = ["<h2>How it was made</h2>"]
    for title, facts in groups:
        if facts:
            body += [f"<h3>{title}</h3>", _facts(facts)]
    return body


def _facts(facts: Mapping[str, object]) -> str:
    return table(["", ""], [(name, _plain(value)) for name, value in facts.items()], kind="facts")


def _plain(value: object) -> object:
    """Return what reads the same from an exporter's tuple and from the list that JSON made of it."""
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_plain(one)}" for name, one in value.items())
    return ", ".join(str(_plain(one)) for one in value) if isinstance(value, list | tuple) else value
