"""Letting an exporter write its model file, and opening it beside what it is measured against."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from zoo.catalogue.calling import blaming
from zoo.catalogue.installed import OURS
from zoo.contracts.plugins import ExportRequest, Made
from zoo.contracts.precision import row_of
from zoo.disk.files import scratch_folder, sha256
from zoo.errors import ContractBroken, EnvironmentBroken, ZooError, first_line
from zoo.exporting.asking import Contender
from zoo.exporting.job import ExportSpec, checked
from zoo.exporting.judge import Judge
from zoo.records.artifact import Artifact
from zoo.runtime.session import OnnxPredictor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from zoo.contracts.plugins import Exporter, Predictor
    from zoo.exporting.job import Job
    from zoo.records.manifest import Temperature, UnknownOutput
    from zoo.records.trained import Trained

YARDSTICK = f"{OURS}/onnx"
"""The exporter whose fp32 file every artifact is timed beside."""


def write_model(trained: Trained, job: Job, folder: Path, **more: Any) -> tuple[Path, Made]:
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
    with blaming(job.plugin, f"on {trained.record.model}"):
        made = _written(job.exporter, request, out)
    if not out.is_file():
        raise ContractBroken(f"exporter {job.name!r} did not write {out.name}")
    return out, _told(made, job.name)


def _written(exporter: Exporter, request: ExportRequest, out: Path) -> Made | None:
    try:
        return exporter.export(request, out)
    except OSError as exc:
        raise EnvironmentBroken(
            f"cannot write {out}: {exc.strerror or exc}; free space or choose another place"
        ) from exc


def _told(made: Made | None, exporter: str) -> Made:
    """Return what an exporter told, or nothing, if a manifest can hold it and a page can show it."""
    try:
        told = asdict(made or Made())
        json.dumps(told, allow_nan=False)
        return TypeAdapter(Made).validate_python(told)
    except (TypeError, ValueError) as exc:
        raise ContractBroken(f"exporter {exporter!r} returned what is no zoo.plugin.Made: {first_line(exc)}") from exc


@contextlib.contextmanager
def contender(trained: Trained, job: Job, model_file: Path, note: Callable[[str], None]) -> Iterator[Contender]:
    """Open the artifact and, beside it, what it is to be measured against, all with the target's number of threads."""
    threads = job.target.threads
    with scratch_folder(trained.run.export_folder / "yardsticks") as folder:
        itself = job.precision == "fp32" and not job.pruning
        own = None if itself else _fp32_file(trained, job, folder / "own", note)
        yardstick = checked(trained.catalogue, ExportSpec(format=YARDSTICK, precision="fp32", target=job.target.name))
        foreign = job.plugin != yardstick.plugin
        coarse = not foreign and row_of(job.precision).coarse
        common = _fp32_file(trained, yardstick, folder / "common", note) if foreign else None
        plain = _without_resize(trained, job, model_file, folder) if job.resize else None
        timed = {"artifact": (job, plain or model_file), "fp32": (job, own), "onnxruntime_fp32": (yardstick, common)}

        def opened() -> dict[str, Predictor]:
            return {name: by.exporter.open(file, threads=threads) for name, (by, file) in timed.items() if file}

        yield Contender(
            predict=job.exporter.open(model_file, threads=threads),
            model_file=model_file,
            # Of fewer channels no probability is held to be the same.
            precision=job.precision + (", pruned" if job.pruning else ""),
            threads=threads,
            opened=opened,
            fp32_file=own,
            without_resize=job.exporter.open(plain, threads=threads) if plain else None,
            elsewhere=OnnxPredictor(model_file, threads=threads, fused=False) if coarse else None,
            saturates=may_saturate(job.exporter, model_file),
            on_target=job.target.is_here,
            onnxruntime_fp32=yardstick.exporter.open(common, threads=threads) if common else None,
            foreign_runtime=foreign,
        )


def may_saturate(exporter: Exporter, model_file: Path) -> bool | None:
    """Return what an exporter finds of sums of int8 products in a file; None if it cannot tell, or there are none."""
    ask = getattr(exporter, "saturates", None)
    return ask(model_file) if ask else None


def _without_resize(trained: Trained, job: Job, model_file: Path, folder: Path) -> Path:
    exporter: Any = job.exporter
    exporter.without_resize(model_file, trained.preprocess, out := folder / model_file.name)
    return out


def _fp32_file(trained: Trained, job: Job, folder: Path, note: Callable[[str], None]) -> Path | None:
    """Return the run's accepted fp32 file of this format, or write one aside; None if the format has no fp32."""
    if "fp32" not in job.exporter.precisions:
        return None
    there = Artifact(trained.run.export_folder / f"{job.name}-fp32")
    with contextlib.suppress(ZooError):
        manifest = there.manifest()
        there.check_files(manifest)
        maker = manifest.lineage["exporter"].rpartition(" ")[0]
        made_of = (manifest.lineage["weights"], maker, manifest.target, *_said(manifest.temperature, manifest.unknown))
        if made_of == (
            sha256(trained.run.best_file),
            job.plugin.distribution,
            job.target.name,
            *_said(trained.temperature, trained.unknown_output),
        ):
            return there.path / manifest.model_file
    note(f"writing {job.name} fp32 to compare with")
    folder.mkdir()
    return write_model(trained, job.whole, folder)[0]


def _said(temperature: Temperature | None, unknown: UnknownOutput | None) -> tuple[object, ...]:
    """Return what of the two is in a file; how they do on which images is not."""
    return (temperature and temperature.value, unknown and (unknown.by, unknown.threshold))
