"""Rows about a training state: saved and gone on with, to the bit or not; fp16 and its scale."""

from __future__ import annotations

import contextlib
import os
import warnings
from typing import TYPE_CHECKING

# Read by cuBLAS when it is first used: without it, PyTorch refuses its products in deterministic mode.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import numpy as np
import torch

from bench.gpu_rows.case import PLAIN, Case, usual
from zoo.training.learn.loop import train_step
from zoo.training.machine.trial import Mode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.gpu_rows.report import Report
    from zoo.training.learn.plan import Plan
    from zoo.training.learn.state import TrainState

STEPS, STOP = 12, 5
"""Steps of a run, and after how many of them it is saved."""


def resume_on_cpu(report: Report) -> None:
    """The same question on the CPU, where the tests hold the answer."""
    # Two threads that wait for each other on a busy machine crawl.
    torch.set_num_threads(1)
    case = Case(model="test_resnet", size=32, batch_size=8, classes=10, device="cpu", mode=PLAIN)
    _resumed(report, case, "")


def resume_on_gpu(report: Report) -> None:
    """Ask it of PyTorch's deterministic kernels, and of the usual ones, which are what a run has."""
    case = usual(rehearsal=report.rehearsal).with_(batch_size=8 if report.rehearsal else 32)
    _resumed(report, case, ", usual kernels")
    with deterministic(report, ", deterministic"):
        _resumed(report, case, ", deterministic")


@contextlib.contextmanager
def deterministic(report: Report, where: str) -> Iterator[None]:
    """Take PyTorch's deterministic kernels; name those that have none, and are used all the same."""
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            yield
    finally:
        torch.use_deterministic_algorithms(False)
    names = {str(one.message).partition(" does not have")[0] for one in told if "determin" in str(one.message)}
    report.figure(f"kernels with no deterministic form{where}", ", ".join(sorted(names)) or "none")


def _resumed(report: Report, case: Case, where: str) -> None:
    """Train twice without a stop and once with one; what differs between the first two is not the stop's doing."""
    file = report.folder / "state.ckpt"
    whole, again = _trained(case, None), _trained(case, None)
    stopped = _trained(case, file)
    for name, other in (("trained again", again), ("stopped and resumed", stopped)):
        report.figure(f"{name}: same bits{where}", all(torch.equal(whole[key], other[key]) for key in whole))
        gap = max(float((whole[key].double() - other[key].double()).abs().max()) for key in whole)
        report.figure(f"{name}: largest difference{where}", f"{gap:.2e}")


def _trained(case: Case, file: Path | None) -> dict[str, torch.Tensor]:
    """Return the weights, and their average, after some steps; with a file, saved and loaded on the way."""
    state, plan = case.zoo(steps=STEPS, drop_rate=0.0)
    torch.manual_seed(1)
    for number in range(STEPS):
        if file is not None and number == STOP:
            torch.save(state.to_payload(), file)
            state, plan = case.zoo(steps=STEPS)
            torch.manual_seed(2)
            state.load(torch.load(file, map_location="cpu", weights_only=True))
        state.count(train_step(state, *case.batch(number), plan))
    found = {f"model.{name}": value.cpu() for name, value in state.model.state_dict().items()}
    assert state.ema is not None
    return found | {f"average.{name}": value.cpu() for name, value in state.ema.module.state_dict().items()}


def fp16(report: Report) -> None:
    """Learn one batch by heart in fp16, with groups of two batches and clipping, from a scale that overflows."""
    case = usual(rehearsal=report.rehearsal)
    case = case.with_(batch_size=8 if report.rehearsal else 32, classes=10)
    if not report.rehearsal:
        case = case.with_(mode=Mode(precision="fp16", layout="nhwc"))
    state, plan = case.zoo(steps=60, accumulate=2, clip_grad=1.0, warmup_epochs=0.0, ema_decay=0.0)
    images, labels = case.batch()
    # Each class a brightness of its own: noise alone would take longer to learn.
    images[:] = np.clip(images // 4 + (labels * 18).astype(np.uint8)[:, None, None, None], 0, 255)
    losses = [_loss_of(state, plan, images, labels) for _ in range(60)]
    report.figure("first loss", losses[0])
    report.figure("last loss", losses[-1])
    report.figure("all finite", bool(np.isfinite(losses).all()))
    report.figure("scale at the end", float(state.scaler.get_scale()))
    if case.mode.precision == "fp16":
        _overflows(report, state, plan, images, labels)


def _loss_of(state: TrainState, plan: Plan, images: np.ndarray, labels: np.ndarray) -> float:
    figures = train_step(state, images, labels, plan)
    state.count(figures)
    total, _, number = figures.tolist()
    return float(total / number)


def _overflows(report: Report, state: TrainState, plan: Plan, images: np.ndarray, labels: np.ndarray) -> None:
    """Set a scale that no gradient survives: the step must be left out, the scale halved, the weights as they were."""
    saved = {**state.scaler.state_dict(), "scale": 2.0**40}
    state.scaler.load_state_dict(saved)
    before = [value.clone() for value in state.model.parameters()]
    state.step = 0
    for _ in range(2):
        _loss_of(state, plan, images, labels)
    same = all(torch.equal(a, b) for a, b in zip(before, state.model.parameters(), strict=True))
    report.figure("a step that overflows is left out", same)
    report.figure("its scale is halved", float(state.scaler.get_scale()) == 2.0**39)
