"""`zoo export`: run -> artifact, proven or refused."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo.cli.completion import names, options
from zoo.cli.options import Json, Runs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zoo.records.artifact import Artifact
    from zoo.records.manifest import Manifest, Report


SAME = (
    *("target", "max_drop", "confidence", "strict", "stress", "max_stress_drop", "min_speedup", "search", "fallback"),
    *("calibrate", "unknown", "unknown_by", "prune", "prune_epochs", "resize_in_graph"),
)
"""Flags that `zoo.export` takes as they are."""
COLOURS = {"good": "green", "heed": "yellow", "bad": "red"}


class Score(StrEnum):
    """How like the known an image is."""

    energy = "energy"
    max_logit = "max-logit"


class Effort(StrEnum):
    """How long a search may take."""

    quick = "quick"
    balanced = "balanced"
    thorough = "thorough"


Run = Annotated[str | None, typer.Argument(help="A run [default: the newest].")]
Onnx = Annotated[bool, typer.Option("--onnx", help="ONNX, the format to build on.")]
Torchscript = Annotated[bool, typer.Option("--torchscript", help="TorchScript; deprecated by PyTorch.")]
Format = Annotated[
    str | None,
    typer.Option("--format", help="Any exporter: `zoo list exporters`.", autocompletion=names("exporter")),
]
Fp32 = Annotated[bool, typer.Option("--fp32")]
Fp16 = Annotated[bool, typer.Option("--fp16")]
Int8 = Annotated[bool, typer.Option("--int8")]
Precision = Annotated[str | None, typer.Option(help="Any precision of the exporter [default: its first].")]
Target = Annotated[str, typer.Option(help="A device: `zoo list targets`.", autocompletion=names("target"))]
MaxDrop = Annotated[float, typer.Option(help="Points of top-1 that the file may lose; of exact match, and mAP.")]
Confidence = Annotated[
    float, typer.Option(help="How often a bound such as the one on the loss holds; the verdict is proven by it.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with 3 unless the verdict is proven.")]
Also = Annotated[
    list[Path] | None,
    typer.Option(metavar="DIR", help="More pictures, no labels needed: does the file answer as fp32 does?"),
]
Stress = Annotated[
    bool, typer.Option("--stress", help="Ask corrupted images too: noise, blur, JPEG, light, another resize.")
]
MaxStressDrop = Annotated[
    float | None, typer.Option(help="Points that the file may lose on these; asks for them [default: not judged].")
]
MinSpeedup = Annotated[float | None, typer.Option(help="Over fp32 in its runtime [default: 1.0 for int8].")]
Search = Annotated[Effort | None, typer.Option(help="How much int8 may try: about 1, 5, 20 minutes for a MobileNet.")]
Fallback = Annotated[
    bool,
    typer.Option("--fallback/--no-fallback", help="Where int8 fails: parts in float, or int8-weights."),
]
Calibrate = Annotated[
    bool, typer.Option("--calibrate", help="Make probabilities honest: a temperature, fitted on val.")
]
Unknown = Annotated[
    float | None,
    typer.Option(help="Add an output for images unlike all known; the share of known ones it may hold for such."),
]
UnknownBy = Annotated[Score, typer.Option(help="What it is decided by.")]
Prune = Annotated[float, typer.Option(metavar="SHARE", help="Cut out this share of the channels, for example 0.3.")]
PruneEpochs = Annotated[int, typer.Option(help="Epochs of training after that.")]
ResizeInGraph = Annotated[
    bool, typer.Option("--resize-in-graph", help="Let the file resize and crop: one image of any size in.")
]
ExportOption = Annotated[
    list[str] | None, typer.Option(help="KEY=VALUE for the exporter.", autocompletion=options("export_option"))
]


def export_cli(
    ctx: typer.Context,
    run: Run = None,
    onnx: Onnx = False,
    torchscript: Torchscript = False,
    format_: Format = None,
    fp32: Fp32 = False,
    fp16: Fp16 = False,
    int8: Int8 = False,
    precision: Precision = None,
    target: Target = "host",
    max_drop: MaxDrop = 1.0,
    confidence: Confidence = 0.95,
    strict: Strict = False,
    also: Also = None,
    stress: Stress = False,
    max_stress_drop: MaxStressDrop = None,
    min_speedup: MinSpeedup = None,
    search: Search = None,
    fallback: Fallback = True,
    calibrate: Calibrate = False,
    unknown: Unknown = None,
    unknown_by: UnknownBy = Score.energy,
    prune: Prune = 0.0,
    prune_epochs: PruneEpochs = 2,
    resize_in_graph: ResizeInGraph = False,
    export_option: ExportOption = None,
    runs: Runs = None,
    json: Json = False,
) -> None:
    """Export a run and prove the file on the run's own test images, which have chosen nothing of it.

    The verdict is "proven" where the images bound the loss by --max-drop, "accepted, not proven" where it was within
    that on images too few to tell, "refused" otherwise (exit code 3).
    """
    from zoo.catalogue.installed import OURS
    from zoo.catalogue.options import parse_pairs
    from zoo.errors import ProofFailed
    from zoo.exporting.door import export

    flags = {f"{OURS}/onnx": onnx, f"{OURS}/torchscript": torchscript, format_ or "": format_}
    precisions = {"fp32": fp32, "fp16": fp16, "int8": int8, precision or "": precision}
    try:
        artifact = export(
            run,
            _one(flags),
            precision=_one(precisions),
            **{name: ctx.params[name] for name in SAME},
            also=also or (),
            options=parse_pairs(export_option or [], "--export-option"),
            runs=runs,
            catalogue=ctx.obj.catalogue(),
        )
    except ProofFailed as exc:
        if exc.artifact:
            _print(exc.artifact, json=json)
        raise
    _print(artifact, json=json)


def _one(said: Mapping[str, object]) -> str:
    """Return the only name that was said; empty if none was."""
    names = [name for name, given in said.items() if given]
    if len(names) > 1:
        raise typer.BadParameter("name one format and one precision; run the command again for another")
    return names[0] if names else ""


def _print(artifact: Artifact, *, json: bool) -> None:
    from zoo.cli.output import print_json

    manifest = artifact.manifest()
    if json:
        print_json({"artifact": str(artifact.path), **manifest.model_dump(mode="json", by_alias=True)})
    else:
        print_proof(artifact, manifest, manifest.report)


def print_proof(artifact: Artifact, manifest: Manifest, report: Report) -> None:
    """Print what the proof found, verdict first."""
    from zoo.cli.output import print_table, stdout
    from zoo.records.facts import doubt, facts, making, remarks, verdict, weight

    for line in making(manifest):
        stdout().print(line)
    style = f"bold {COLOURS[weight(report)]}"
    print_table(["proof", ""], facts(manifest, report), title=verdict(manifest, report), style=style)
    for line in remarks(manifest, report):
        stdout().print(line, style=COLOURS["heed"] if line == doubt(report) else None, soft_wrap=True)
    if artifact.page.is_file():
        stdout().print(f"page: {artifact.page}")
    stdout().print(str(artifact.path))
