"""Run + exporter -> artifact: made aside, put to the proof, and given its name only if the proof holds."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from zoo.catalogue.made.tracker import make_trackers
from zoo.disk.files import replace_folder, scratch_folder, sha256, write_text
from zoo.errors import ExportUnsupported, Interrupted, Terminated, ZooError, first_line
from zoo.exporting.calibration import calibrate, tell_unknown, told_on
from zoo.exporting.file import contender, write_model
from zoo.exporting.job import ExportSpec, Job, checked
from zoo.exporting.limits import Budget, findings
from zoo.exporting.page.report import render_export
from zoo.exporting.proof import PROVES, prove
from zoo.exporting.reference import write_reference
from zoo.records.artifact import PAGE, REJECTED, Artifact, checksums, write_manifest
from zoo.records.golden import write_golden
from zoo.records.manifest import Manifest, Refusal, Tensor
from zoo.records.record import now
from zoo.records.trained import load_trained
from zoo.records.versions import versions
from zoo.training.prune import prune

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from zoo.catalogue import Catalogue
    from zoo.contracts.plugins import Made
    from zoo.records.manifest import Report
    from zoo.records.run import Run
    from zoo.records.trained import Trained


__all__ = ["ExportSpec", "export_run", "prove_again"]


def export_run(
    catalogue: Catalogue, run: Run, spec: ExportSpec, note: Callable[[str], None] = lambda text: None
) -> tuple[Artifact, Manifest]:
    """Export a run, prove the artifact, and return it; `manifest.report.verdict` tells how that ended.

    An accepted artifact stands under `export/<exporter>-<precision>`, a refused one under the same name with
    ".rejected"; an accepted one from before is then left as it is.

    Raises:
        UnknownName, OptionInvalid: a name, precision or option that there is not.
        RunInvalid, DatasetInvalid: the run or its data is not what it was.
        ExportUnsupported: the exporter cannot express this model.
    """
    job = checked(catalogue, spec)
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
        if manifest.report.accepted or not instead or not _chosen_against(manifest.report, job):
            return artifact, manifest
        refusal = Refusal(precision=job.precision, reasons=manifest.report.reasons, made=manifest.made)
    note(f"{job.precision} is refused: {'; '.join(refusal.reasons)}; making {instead} instead")
    other = checked(catalogue, replace(spec, precision=instead or "", min_speedup=None))
    other = replace(other, instead_of=refusal, backbone=job.backbone, pruning=job.pruning)
    return _make_and_prove(trained, other, note)


def _chosen_against(report: Report, job: Job) -> bool:
    """Whether a file is refused by its speed and by the images that choose files too, and not by the proof's alone.

    Those must not choose between two files: the other one's proof would be flattered.
    """
    chose = report.selection
    numbers = {**vars(report), "drop": chose.drop if chose else report.drop, "map_drop": None}
    return bool(findings(numbers, job.budget, job.precision))


def _with_answers(trained: Trained, spec: ExportSpec, note: Callable[[str], None]) -> Trained:
    """Calibrate, and find out from where on an image is unknown, as far as that is asked for."""

    if spec.calibrate:
        note("fitting a temperature on the validation images")
        trained = calibrate(trained)
    return trained if spec.unknown is None else tell_unknown(trained, spec.unknown, spec.unknown_by)


def _pruned(trained: Trained, job: Job, spec: ExportSpec, note: Callable[[str], None]) -> Job:
    """Cut channels out of the network that is exported, if that is asked for."""
    if not spec.prune:
        return job

    backbone, pruning = prune(trained, spec.prune, spec.prune_epochs, note)
    return replace(job, backbone=backbone, pruning=pruning)


def _make_and_prove(trained: Trained, job: Job, note: Callable[[str], None]) -> tuple[Artifact, Manifest]:
    run = trained.run
    final = run.export_folder / job.folder
    workspace = final.with_name(f".{final.name}.work")
    with _gone_with_an_error(workspace), scratch_folder(final) as folder:
        note(f"exporting {run.name} to {job.name} {job.precision}")
        model_file, made = write_model(trained, job, folder, note=note, workspace=workspace)
        with contender(trained, job, model_file, note) as side_by_side:
            note(f"proving it on the {len(trained.data.splits[PROVES])} images of {PROVES}, which chose nothing of it")
            proof = prove(trained, side_by_side, job.budget, also=job.also, stressed=job.stress)
        trained = told_on(trained, PROVES)
        report = proof.report
        write_golden(folder, proof.golden)
        write_reference(folder, proof.reference)
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


@contextlib.contextmanager
def _gone_with_an_error(workspace: Path) -> Iterator[None]:
    """Remove half-done work that nobody can go on with; a signal leaves it."""
    try:
        yield
    except ZooError as exc:
        if not isinstance(exc, Interrupted | Terminated):
            shutil.rmtree(workspace, ignore_errors=True)
        raise


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
    before = manifest.report
    budget = Budget(max_drop=before.max_drop, confidence=before.confidence, max_stress_drop=before.max_stress_drop)
    job = replace(checked(catalogue, spec), budget=budget, pruning=manifest.pruning, resize=manifest.resize_in_graph)
    trained = load_trained(catalogue, run).at(manifest.temperature).telling(manifest.unknown)
    with contender(trained, job, artifact.path / manifest.model_file, note) as side_by_side:
        split = manifest.report.split
        note(f"proving it on the {len(trained.data.splits[split])} images of {split}")
        return prove(trained, side_by_side, job.budget, split=split, stressed=bool(manifest.report.stress)).report


def _tell_trackers(trained: Trained, folder: Path, report: Report, note: Callable[[str], None]) -> None:
    config = trained.config
    with contextlib.suppress(ZooError):  # a tracker that is gone must not cost the artifact
        trackers = make_trackers(trained.catalogue, config.trackers, config.tracker_options, note)
        trackers.start(trained.run.path, config.model_dump(mode="json"))
        trackers.artifact(folder, report.model_dump(mode="json"))
        trackers.end({})


def _manifest(trained: Trained, job: Job, model_file: Path, report: Report, made: Made) -> Manifest:
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
