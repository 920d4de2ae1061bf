"""`zoo export`: run -> artifact, proven or refused."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from zoo.cli.completion import names, options
from zoo.cli.options import Json, Runs

if TYPE_CHECKING:
    from zoo.records.artifact import Artifact
    from zoo.records.manifest import Manifest, Report


class Score(StrEnum):
    """How like the known an image is."""

    energy = "energy"
    max_logit = "max-logit"


class Effort(StrEnum):
    """How long a search may take."""

    quick = "quick"
    balanced = "balanced"
    thorough = "thorough"


def export_cli(
    ctx: typer.Context,
    run: Annotated[str | None, typer.Argument(help="A run [default: the newest].")] = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="ONNX, the format to build on.")] = False,
    torchscript: Annotated[bool, typer.Option("--torchscript", help="TorchScript; deprecated by PyTorch.")] = False,
    format_: Annotated[
        str | None,
        typer.Option("--format", help="Any exporter: `zoo list exporters`.", autocompletion=names("exporter")),
    ] = None,
    fp32: Annotated[bool, typer.Option("--fp32")] = False,
    fp16: Annotated[bool, typer.Option("--fp16")] = False,
    int8: Annotated[bool, typer.Option("--int8")] = False,
    precision: Annotated[str | None, typer.Option(help="Any precision of the exporter [default: its first].")] = None,
    target: Annotated[str, typer.Option(help="A device: `zoo list targets`.", autocompletion=names("target"))] = "host",
    max_drop: Annotated[
        float, typer.Option(help="Points of top-1 that the artifact may lose; of exact match, and mAP.")
    ] = 1.0,
    min_speedup: Annotated[float | None, typer.Option(help="Over fp32 in its runtime [default: 1.0 for int8].")] = None,
    search: Annotated[
        Effort | None, typer.Option(help="How much int8 may try: about 1, 5, 20 minutes for a MobileNet.")
    ] = None,
    fallback: Annotated[
        bool,
        typer.Option("--fallback/--no-fallback", help="Where int8 fails: parts in float, or int8-weights."),
    ] = True,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Make probabilities honest: a temperature, fitted on val.")
    ] = False,
    unknown: Annotated[
        float | None,
        typer.Option(help="Add an output for images unlike all known; the share of known ones it may hold for such."),
    ] = None,
    unknown_by: Annotated[Score, typer.Option(help="What it is decided by.")] = Score.energy,
    prune: Annotated[
        float, typer.Option(metavar="SHARE", help="Cut out this share of the channels, for example 0.3.")
    ] = 0.0,
    prune_epochs: Annotated[int, typer.Option(help="Epochs of training after that.")] = 2,
    resize_in_graph: Annotated[
        bool, typer.Option("--resize-in-graph", help="Let the file resize and crop: one image of any size in.")
    ] = False,
    export_option: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE for the exporter.", autocompletion=options("export_option"))
    ] = None,
    runs: Runs = None,
    json: Json = False,
) -> None:
    """Export a run and prove the file on the run's own validation images."""
    from zoo.catalogue.installed import OURS
    from zoo.catalogue.options import parse_pairs
    from zoo.cli.output import print_json
    from zoo.contracts.progress import note
    from zoo.disk.home import runs_root
    from zoo.errors import ProofFailed
    from zoo.exporting.export import ExportSpec, export_run
    from zoo.records.find import find_run

    formats = [
        name
        for name, given in ((f"{OURS}/onnx", onnx), (f"{OURS}/torchscript", torchscript), (format_, format_))
        if given and name
    ]
    precisions = [name for name, given in (("fp32", fp32), ("fp16", fp16), ("int8", int8)) if given]
    precisions += [precision] if precision else []
    if len(formats) > 1 or len(precisions) > 1:
        raise typer.BadParameter("name one format and one precision; run the command again for another")
    found = find_run(run, runs_root(runs))
    if run is None:
        note(f"using {found.path}")
    chosen = {"search": search.value} if search else {}
    spec = ExportSpec(
        format=formats[0] if formats else f"{OURS}/onnx",
        precision=precisions[0] if precisions else "",
        target=target,
        max_drop=max_drop,
        min_speedup=min_speedup,
        options={**chosen, **parse_pairs(export_option or [], "--export-option")},
        fallback=fallback,
        calibrate=calibrate,
        unknown=unknown,
        unknown_by=unknown_by.value,
        prune=prune,
        prune_epochs=prune_epochs,
        resize=resize_in_graph,
    )
    artifact, manifest = export_run(ctx.obj.catalogue(), found, spec, note)
    if json:
        told = manifest.model_dump(mode="json", by_alias=True)
        print_json({"artifact": str(artifact.path), "page": str(artifact.page), **told})
    else:
        print_proof(artifact, manifest, manifest.report)
    if not manifest.report.accepted:
        raise ProofFailed(f"refused: {'; '.join(manifest.report.reasons)}; kept as {artifact.path} to look at")


def print_proof(artifact: Artifact, manifest: Manifest, report: Report) -> None:
    """Print what the proof found, verdict first."""
    from zoo.cli.output import megabytes, percent, print_table, stdout
    from zoo.exporting.page.tried import resize_told

    verdict = "accepted" if report.accepted else "REFUSED"
    low, high = report.drop_interval
    share = "exact match" if manifest.multi_label else "top-1"
    rows = [
        (f"{share}, eager fp32", percent(report.reference_top1)),
        (f"{share}, this file", percent(report.artifact_top1)),
        ("drop", f"{report.drop:.2f} points (95 %: {low:.2f} to {high:.2f}; allowed {report.max_drop:g})"),
        *_precision(report),
        ("flips", f"{report.flips} of {report.images}"),
        *_fidelity(report),
        *_honesty(manifest, report),
        ("largest probability difference", f"{report.max_probability_difference:.2g}"),
    ]
    if report.against_onnxruntime_fp32:
        agreement = report.against_onnxruntime_fp32
        rows.append(
            ("against fp32 ONNX", f"{agreement.flips} flips, difference {agreement.max_probability_difference:.2g}")
        )
    rows.append(
        ("size", f"{megabytes(report.size_bytes)} (fp32 {megabytes(report.fp32_size_bytes or report.size_bytes)})")
    )
    rows += [
        (f"latency, {name.replace('_', ' ')}", f"{timing.p50:.3f} ms (p95 {timing.p95:.3f})")
        for name, timing in report.latency_ms.items()
        if timing
    ]
    if report.resize:
        rows.append(("resize in the graph", resize_told(report.resize)))
    if report.speedup is not None:
        rows.append(("speed over fp32, same runtime", f"{report.speedup:.2f}x, {report.threads} thread(s), batch 1"))
    if manifest.pruning:
        cut = manifest.pruning
        stdout().print(
            f"pruned by {cut.share:g}: {megas(cut.parameters)} of {megas(cut.parameters_before)} parameters, "
            f"{megas(cut.macs)} of {megas(cut.macs_before)} multiplications, {cut.epochs} epochs after"
        )
    if manifest.instead_of:
        instead = manifest.instead_of
        stdout().print(f"{instead.precision} was refused: {'; '.join(instead.reasons)}")
        stdout().print(f"{manifest.precision} was made instead")
    title = f"{manifest.format} {manifest.precision}: {verdict} on {report.images} {report.split} images"
    print_table(["proof", ""], rows, title=title)
    for line in manifest.made.get("notes", ()):
        stdout().print(line)
    if not report.on_target:
        stdout().print(f"latency is this machine's, not that of {manifest.target}: prove it again on the device")
    for reason in report.reasons:
        stdout().print(f"refused: {reason}")
    if artifact.page.is_file():
        stdout().print(f"page: {artifact.page}")
    stdout().print(str(artifact.path))


def megas(count: int) -> str:
    """Return a count in millions."""
    return f"{count / 1e6:.2f} M"


def _fidelity(report: Report) -> list[tuple[str, str]]:
    near = report.fidelity
    return [("cosine of the logits", f"{near.cosine:.4f} (worst tenth {near.cosine_p10:.4f})")] if near else []


def _honesty(manifest: Manifest, report: Report) -> list[tuple[str, str]]:
    """Tell how far probabilities, and what is called unknown, can be believed."""
    from zoo.cli.output import percent

    rows = []
    if report.reference_ece is not None and report.artifact_ece is not None:
        text = f"{percent(report.artifact_ece)} (eager fp32 {percent(report.reference_ece)})"
        rows.append(("calibration error", text))
    if manifest.temperature:
        found = manifest.temperature
        parts = [f"{name} {percent(found.ece_before[name])} to {percent(e)}" for name, e in found.ece_after.items()]
        rows.append((f"by the temperature {found.value:.3f}", f"{', '.join(parts)} (eager fp32)"))
    if manifest.unknown and report.artifact_unknown is not None:
        shares = manifest.unknown.known_called_unknown.items()
        told = ", ".join(f"{name} {percent(share)}" for name, share in shares)
        asked = f"asked for {percent(manifest.unknown.rate)}"
        rows.append(("known images called unknown", f"{percent(report.artifact_unknown)} ({asked}; eager fp32 {told})"))
    return rows


def _precision(report: Report) -> list[tuple[str, str]]:
    from zoo.cli.output import percent

    if report.reference_map is None or report.artifact_map is None:
        return []
    return [
        ("mAP, eager fp32", percent(report.reference_map)),
        ("mAP, this file", percent(report.artifact_map)),
        ("drop of mAP", f"{report.map_drop:.2f} points (allowed {report.max_drop:g})"),
    ]
