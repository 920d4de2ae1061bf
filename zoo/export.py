"""Run + exporter -> artifact: made aside, proven, and given its name only if the proof holds."""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from zoo.artifact import PAGE, REJECTED, Artifact, Manifest, Refusal, Tensor, checksums, write_golden, write_manifest
from zoo.errors import (
    ContractBroken,
    EnvironmentBroken,
    ExportUnsupported,
    OptionInvalid,
    PluginBroken,
    UnknownName,
    ZooError,
    first_line,
)
from zoo.evaluate.export_report import render_export
from zoo.files import replace_folder, scratch_folder, sha256, write_text
from zoo.installed import OURS
from zoo.judge import Judge
from zoo.options import check, exporter_options
from zoo.plugin import ExportRequest, Made
from zoo.proof import Contender, prove
from zoo.run import now
from zoo.tracking import make_trackers
from zoo.trained import load_trained
from zoo.verify import DEFAULT_MIN_SPEEDUP, Budget
from zoo.versions import versions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import torch

    from zoo.artifact import Pruning, Report
    from zoo.catalogue import Catalogue
    from zoo.installed import Plugin
    from zoo.plugin import Exporter, Predictor
    from zoo.run import Run
    from zoo.target import Target
    from zoo.trained import Trained
    from zoo.unknown import UnknownBy

YARDSTICK = f"{OURS}/onnx"
"""The exporter whose fp32 file every artifact is timed beside."""


@dataclass(frozen=True, kw_only=True)
class ExportSpec:
    """What the user asked of an export."""

    format: str
    precision: str = ""
    """Empty means the target's, if the exporter has it, else the exporter's first."""
    target: str = "host"
    max_drop: float = Budget.max_drop
    min_speedup: float | None = None
    """None means the default: 1.0 for int8, not judged otherwise."""
    options: Mapping[str, str] = field(default_factory=dict)
    fallback: bool = True
    """Whether parts may stay in float, or another precision be made, where the one that was asked for is refused."""
    calibrate: bool = False
    """Whether the logits are divided by a temperature, fitted on the validation images."""
    unknown: float | None = None
    """The share of known images that an output `unknown` may hold for unknown; None means no such output."""
    unknown_by: UnknownBy = "energy"
    prune: float = 0.0
    """Share of the channels, in 0..1, that are cut out before."""
    prune_epochs: int = 2
    """Of training afterwards."""
    resize: bool = False
    """Whether the file resizes and crops, and so takes images of any size."""


@dataclass(frozen=True, kw_only=True)
class _Job:
    """An export whose names and options were found good."""

    plugin: Plugin
    exporter: Exporter
    precision: str
    target: Target
    budget: Budget
    options: dict[str, Any]
    fallback: bool = True
    resize: bool = False
    instead_of: Refusal | None = None
    backbone: torch.nn.Module | None = None
    """What is exported in place of the run's own, such as a pruned one."""
    pruning: Pruning | None = None

    @property
    def name(self) -> str:
        """The format, as the artifact's folder and manifest tell it."""
        return self.plugin.name

    @property
    def folder(self) -> str:
        """What the artifact's folder is called."""
        pruned, resizes = "-pruned" if self.pruning else "", "-resize" if self.resize else ""
        return f"{self.name}-{self.precision}{pruned}{resizes}"

    @property
    def whole(self) -> _Job:
        """The same at fp32 for prepared pixels, with nothing cut out: what a file is measured against."""
        return replace(self, precision="fp32", resize=False, backbone=None, pruning=None)


def export_run(
    catalogue: Catalogue, run: Run, spec: ExportSpec, note: Callable[[str], None] = lambda text: None
) -> tuple[Artifact, Manifest]:
    """Export a run, prove the artifact, and return it; `manifest.report.accepted` tells the verdict.

    An accepted artifact stands under `export/<exporter>-<precision>`, a refused one under the same name with
    ".rejected"; an accepted one from before is then left as it is.

    Raises:
        UnknownName, OptionInvalid: a name, precision or option that there is not.
        RunInvalid, DatasetInvalid: the run or its data is not what it was.
        ExportUnsupported: the exporter cannot express this model.
    """
    job = _check(catalogue, spec)
    trained = _with_answers(load_trained(catalogue, run), spec, note)
    job = _pruned(trained, job, spec, note)
    instead = getattr(job.exporter, "instead", {}).get(job.precision) if spec.fallback else None
    try:
        artifact, manifest = _make_and_prove(trained, job, note)
    except ExportUnsupported as exc:
        if not instead:
            raise
        refusal = Refusal(precision=job.precision, reasons=(first_line(exc),))
    else:
        if manifest.report.accepted or not instead:
            return artifact, manifest
        refusal = Refusal(precision=job.precision, reasons=manifest.report.reasons, made=manifest.made)
    note(f"{job.precision} is refused: {'; '.join(refusal.reasons)}; making {instead} instead")
    other = _check(catalogue, replace(spec, precision=instead or "", min_speedup=None))
    other = replace(other, instead_of=refusal, backbone=job.backbone, pruning=job.pruning)
    return _make_and_prove(trained, other, note)


def _with_answers(trained: Trained, spec: ExportSpec, note: Callable[[str], None]) -> Trained:
    """Calibrate, and find out from where on an image is unknown, as far as that is asked for."""
    from zoo.evaluate.calibration import calibrate, tell_unknown

    if spec.calibrate:
        note("fitting a temperature on the validation images")
        trained = calibrate(trained)
    return trained if spec.unknown is None else tell_unknown(trained, spec.unknown, spec.unknown_by)


def _pruned(trained: Trained, job: _Job, spec: ExportSpec, note: Callable[[str], None]) -> _Job:
    """Cut channels out of the network that is exported, if that is asked for."""
    if not spec.prune:
        return job
    from zoo.train.prune import prune

    backbone, pruning = prune(trained, spec.prune, spec.prune_epochs, note)
    return replace(job, backbone=backbone, pruning=pruning)


def _make_and_prove(trained: Trained, job: _Job, note: Callable[[str], None]) -> tuple[Artifact, Manifest]:
    run = trained.run
    final = run.export_folder / job.folder
    workspace = final.with_name(f".{final.name}.work")
    with scratch_folder(final) as folder:
        note(f"exporting {run.name} to {job.name} {job.precision}")
        model_file, made = _write_model(trained, job, folder, note=note, workspace=workspace)
        with _contender(trained, job, model_file, note) as contender:
            note(f"proving it on the {len(trained.data.splits['val'])} validation images")
            proof = prove(trained, contender, job.budget)
        report = proof.report
        write_golden(folder, proof.golden)
        manifest = _manifest(trained, job, model_file, report, made)
        write_text(folder / PAGE, render_export(manifest, proof.golden, proof.flipped, proof.moved))
        manifest = manifest.model_copy(update={"files": checksums(folder)})
        write_manifest(folder, manifest)
        rejected = final.with_name(final.name + REJECTED)
        replace_folder(folder, final if report.accepted else rejected)
    shutil.rmtree(workspace, ignore_errors=True)
    if report.accepted:
        _tell_trackers(trained, final, report, note)
    return Artifact(final if report.accepted else rejected), manifest


def prove_again(
    catalogue: Catalogue, run: Run, artifact: Artifact, note: Callable[[str], None] = lambda text: None
) -> Report:
    """Prove an artifact once more from its own files and the run's data, as `export_run` did; nothing is written."""
    manifest = artifact.manifest()
    artifact.check_files(manifest)
    spec = ExportSpec(
        format=manifest.format, precision=manifest.precision, target=manifest.target, options=manifest.options
    )
    # Latency is measured and shown again, but a busy machine must not fail a file that has not changed.
    catalogue = artifact.meaning(catalogue)
    budget = Budget(max_drop=manifest.report.max_drop, min_speedup=None)
    job = replace(_check(catalogue, spec), budget=budget, pruning=manifest.pruning, resize=manifest.resize_in_graph)
    trained = load_trained(catalogue, run).at(manifest.temperature).telling(manifest.unknown)
    with _contender(trained, job, artifact.path / manifest.model_file, note) as contender:
        note(f"proving it on the {len(trained.data.splits['val'])} validation images")
        return prove(trained, contender, job.budget).report


def _tell_trackers(trained: Trained, folder: Path, report: Report, note: Callable[[str], None]) -> None:
    config = trained.config
    with contextlib.suppress(ZooError):  # a tracker that is gone must not cost the artifact
        trackers = make_trackers(trained.catalogue, config.trackers, config.tracker_options, note)
        trackers.start(trained.run.path, config.model_dump(mode="json"))
        trackers.artifact(folder, report.model_dump(mode="json"))
        trackers.end({})


def _check(catalogue: Catalogue, spec: ExportSpec) -> _Job:
    plugin = catalogue.find("exporter", spec.format)
    exporter: Exporter = catalogue.load(plugin)()
    target = catalogue.target(spec.target)
    usual = target.precision if target.precision in exporter.precisions else exporter.precisions[0]
    precision = spec.precision or usual
    if precision not in exporter.precisions:
        known = ", ".join(exporter.precisions)
        raise UnknownName(f"exporter {spec.format!r} has no precision {precision!r}; it has {known}")
    if not spec.max_drop >= 0:
        raise OptionInvalid(f"--max-drop {spec.max_drop} must be 0 or more points")
    if spec.unknown is not None and not 0 < spec.unknown < 1:
        raise OptionInvalid(f"--unknown {spec.unknown:g} must be a share of the images between 0 and 1, such as 0.05")
    if spec.unknown is not None and not getattr(exporter, "tells_unknown", False):
        raise OptionInvalid(f"exporter {spec.format!r} cannot write the output `unknown`; leave --unknown out")
    if spec.resize and not getattr(exporter, "resizes_in_graph", False):
        raise OptionInvalid(f"exporter {spec.format!r} cannot resize in the graph; leave --resize-in-graph out")
    if not 0 <= spec.prune < 1 or spec.prune_epochs < 0:
        raise OptionInvalid(f"--prune {spec.prune:g} must be a share of the channels below 1, and its epochs 0 or more")
    declared = exporter_options(exporter)
    given = check(spec.options, declared, f"exporter {spec.format!r}")
    if target.precisions and precision not in target.precisions:
        raise UnknownName(
            f"target {target.name!r} runs {', '.join(target.precisions)}, not {precision}; name one of them"
        )
    # What is slow here may be fast there: speed is judged by default only where the machine may be the target.
    wanted = DEFAULT_MIN_SPEEDUP.get(precision, 1.0 if spec.prune else None)
    speedup = wanted if target.is_here else None
    return _Job(
        plugin=plugin,
        exporter=exporter,
        precision=precision,
        target=target,
        budget=Budget(max_drop=spec.max_drop, min_speedup=speedup if spec.min_speedup is None else spec.min_speedup),
        options={name: option.default for name, option in declared.items()} | given,
        fallback=spec.fallback,
        resize=spec.resize,
    )


def _write_model(trained: Trained, job: _Job, folder: Path, **more: Any) -> tuple[Path, Made]:
    """Let the exporter write its model file into `folder`; return the file, and what there is to tell of it."""
    out = folder / f"model{job.exporter.suffix}"
    model, backbone = trained.ship(job.backbone) if job.backbone else (trained.shipped, trained.backbone)
    request = ExportRequest(
        model=model,
        backbone=backbone,
        preprocess=trained.preprocess,
        classes=trained.record.classes,
        precision=job.precision,
        calibration=trained.calibration,
        target=job.target,
        options=job.options,
        multi_label=trained.record.multi_label,
        unknown=trained.unknown,
        max_drop=job.budget.max_drop,
        min_speedup=job.budget.min_speedup,
        fallback=job.fallback,
        resize=job.resize,
        score=Judge(trained),
        seed=trained.record.seed,
        **more,
    )
    try:
        made = job.exporter.export(request, out)
    except (ZooError, KeyboardInterrupt):
        raise
    except OSError as exc:
        raise EnvironmentBroken(
            f"cannot write {out}: {exc.strerror or exc}; free space or choose another place"
        ) from exc
    except Exception as exc:
        raise PluginBroken(
            f"exporter {job.name!r} failed on {trained.record.model}: {first_line(exc)}; nothing was kept"
        ) from exc
    if not out.is_file():
        raise ContractBroken(f"exporter {job.name!r} did not write {out.name}")
    return out, _checked(made, job.name)


def _checked(made: Made | None, exporter: str) -> Made:
    """Return what an exporter told, or nothing, if a manifest can hold it and a page can show it."""
    try:
        told = asdict(made or Made())
        json.dumps(told, allow_nan=False)
        return TypeAdapter(Made).validate_python(told)
    except (TypeError, ValueError) as exc:
        raise ContractBroken(f"exporter {exporter!r} returned what is no zoo.plugin.Made: {first_line(exc)}") from exc


@contextlib.contextmanager
def _contender(trained: Trained, job: _Job, model_file: Path, note: Callable[[str], None]) -> Iterator[Contender]:
    """Open the artifact and, beside it, what it is to be measured against, all with the target's number of threads."""
    threads = job.target.threads
    with scratch_folder(trained.run.export_folder / "yardsticks") as folder:
        itself = job.precision == "fp32" and not job.pruning
        own = None if itself else _fp32_file(trained, job, folder / "own", note)
        yardstick = _check(trained.catalogue, ExportSpec(format=YARDSTICK, precision="fp32", target=job.target.name))
        foreign = job.plugin != yardstick.plugin
        common = _fp32_file(trained, yardstick, folder / "common", note) if foreign else None
        yield Contender(
            predict=job.exporter.open(model_file, threads=threads),
            model_file=model_file,
            # Of fewer channels no probability is held to be the same.
            precision=job.precision + (", pruned" if job.pruning else ""),
            threads=threads,
            fp32=job.exporter.open(own, threads=threads) if own else None,
            fp32_file=own,
            without_resize=_without_resize(trained, job, model_file, folder) if job.resize else None,
            on_target=job.target.is_here,
            onnxruntime_fp32=yardstick.exporter.open(common, threads=threads) if common else None,
            foreign_runtime=foreign,
        )


def _without_resize(trained: Trained, job: _Job, model_file: Path, folder: Path) -> Predictor:
    exporter: Any = job.exporter
    exporter.without_resize(model_file, trained.preprocess, out := folder / model_file.name)
    return job.exporter.open(out, threads=job.target.threads)


def _fp32_file(trained: Trained, job: _Job, folder: Path, note: Callable[[str], None]) -> Path | None:
    """Return the run's proven fp32 file of this format, or write one aside; None if the format has no fp32."""
    if "fp32" not in job.exporter.precisions:
        return None
    proven = Artifact(trained.run.export_folder / f"{job.name}-fp32")
    with contextlib.suppress(ZooError):
        manifest = proven.manifest()
        proven.check_files(manifest)
        maker = manifest.lineage["exporter"].rpartition(" ")[0]
        made_of = (manifest.lineage["weights"], maker, manifest.target, manifest.temperature, manifest.unknown)
        if made_of == (
            sha256(trained.run.best_file),
            job.plugin.distribution,
            job.target.name,
            trained.temperature,
            trained.unknown_output,
        ):
            return proven.path / manifest.model_file
    note(f"writing {job.name} fp32 to compare with")
    folder.mkdir()
    return _write_model(trained, job.whole, folder)[0]


def _manifest(trained: Trained, job: _Job, model_file: Path, report: Report, made: Made) -> Manifest:
    batch, sides = (1, (None, None)) if job.resize else (None, trained.preprocess.size)
    return Manifest(
        format=job.name,
        precision=job.precision,
        target=job.target.name,
        input=Tensor(name="image", dtype="uint8", shape=(batch, *sides, 3)),
        output=Tensor(name="probabilities", dtype="float32", shape=(batch, len(trained.record.classes))),
        classes=trained.record.classes,
        multi_label=trained.record.multi_label,
        thresholds=trained.record.thresholds,
        preprocess=trained.preprocess.to_json(),
        resize_in_graph=job.resize,
        files=checksums(model_file.parent),
        model_file=model_file.name,
        options=job.options,
        made=asdict(made),
        temperature=trained.temperature,
        unknown=trained.unknown_output,
        pruning=job.pruning,
        instead_of=job.instead_of,
        session=dict(made.session),
        lineage={
            "run": trained.run.name,
            "run_json": sha256(trained.run.record_file),
            "weights": sha256(trained.run.best_file),
            "dataset_fingerprint": trained.data.fingerprint,
            "exporter": job.plugin.owner,
            "versions": versions([job.plugin]),
            "created": now(),
        },
        licenses=trained.record.licenses,
        report=report,
    )
