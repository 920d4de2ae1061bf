"""Rows of whole runs: out of memory for real, and a run that is stopped and gone on with."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch

from bench.gpu_rows.state import deterministic
from zoo.catalogue import Catalogue
from zoo.errors import Interrupted
from zoo.records.layers import resolve_options
from zoo.records.run import Run
from zoo.training.session import resume_run, start_run
from zoo.training.watch import Watch

if TYPE_CHECKING:
    from pathlib import Path

    from bench.gpu_rows.report import Report
    from zoo.training.learn.state import TrainState

LEFT = 4e9
"""Bytes of the card's memory that are left to a run which wants three times as many."""


class Listening(Watch):
    """Keeps what is told, and stops a run after some steps."""

    def __init__(self, stop_at: int = 0) -> None:
        self.notes: list[str] = []
        self._stop_at, self._steps = stop_at, 0

    def note(self, text: str) -> None:
        self.notes.append(text)

    def step(self, state: TrainState) -> None:
        self._steps += 1
        if self._steps == self._stop_at:
            raise Interrupted


def options(report: Report, **more: Any) -> dict[str, Any]:
    """Return the options of a small run on drawn shapes, nothing of which is left to a measurement."""
    given: dict[str, Any] = {
        "model": "test_resnet" if report.rehearsal else "resnet18",
        "dataset": "shapes",
        "dataset_options": {"count": 10 if report.rehearsal else 60},
        "pretrained": False,
        "image_size": 32 if report.rehearsal else 128,
        "epochs": 2,
        "batch_size": 16 if report.rehearsal else 32,
        "device": report.device,
        "precision": "fp32" if report.rehearsal else "bf16",
        "layout": "nchw" if report.rehearsal else "nhwc",
        "cache": "off",
    }
    return given | more


def trained(path: Path, given: dict[str, Any], watch: Watch | None = None) -> Run:
    """Train a run."""
    catalogue = Catalogue.read()
    return start_run(catalogue, resolve_options(catalogue, given, None, None), path, watch)


def out_of_memory(report: Report) -> None:
    """Fill the card but for a few gigabytes, and train resnet50 with a batch that wants more."""
    big = {} if report.rehearsal else {"model": "resnet50", "image_size": 224, "batch_size": 128, "epochs": 1}
    filler = torch.empty(0)
    if not report.rehearsal:
        free, _ = torch.cuda.mem_get_info()
        # What the card has left is what counts: the allocator's own limit would be another path.
        filler = torch.empty(max(0, int(free - LEFT)), dtype=torch.uint8, device=report.device)
        report.figure("GB left to the run", min(LEFT, free) / 1e9)
    watch = Listening()
    run = trained(report.folder / "memory", options(report, **big), watch)
    del filler
    told = [note for note in watch.notes if note.startswith("out of memory")]
    report.figure("how often it ran out", len(told))
    for number, note in enumerate(told, 1):
        report.figure(f"told {number}", note)
    config = run.record().config
    report.figure("batch at the end", str(config.get("batch_size")))
    report.figure("batches a step at the end", str(config.get("accumulate")))
    report.figure("finished", run.finished)


def resumed(report: Report) -> None:
    """Train twice without a stop and once with one, by deterministic kernels, then with the usual ones."""
    with deterministic(report, ", deterministic"):
        _stopped(report, "deterministic")
    _stopped(report, "usual kernels")


def _stopped(report: Report, where: str) -> None:
    place = report.folder / where.replace(" ", "-")
    given = options(report)
    whole, again = trained(place / "whole", given), trained(place / "again", given)
    with contextlib.suppress(Interrupted):
        trained(place / "stopped", given, Listening(stop_at=4 if report.rehearsal else 20))
    report.figure(f"stopped with its state saved, {where}", Run(place / "stopped").resumable)
    stopped = resume_run(Catalogue.read(), Run(place / "stopped"), lambda config: config)
    for name, run in (("trained again", again), ("stopped and resumed", stopped)):
        same = run.best_file.read_bytes() == whole.best_file.read_bytes()
        report.figure(f"{name}: the same best weights, {where}", same)
        same = run.metrics_file.read_bytes() == whole.metrics_file.read_bytes()
        report.figure(f"{name}: the same metrics, {where}", same)
