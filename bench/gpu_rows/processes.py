"""Rows about processes that train together: NCCL with one process on one card, and all cards of a machine."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from bench.gpu_rows.case import EMA, Case, usual, wait
from zoo.training.learn.loop import train_step
from zoo.training.learn.state import make_average
from zoo.training.machine.choose import laid_out
from zoo.training.machine.replica import Replica, Sharded, Shared, with_shared_norms
from zoo.training.machine.trial import Mode
from zoo.training.machine.world import _meet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.gpu_rows.report import Report
    from zoo.training.learn.plan import Plan
    from zoo.training.learn.state import TrainState

STEPS, ROUNDS, BLOCK = 6, 7, 10


@contextlib.contextmanager
def group_of_one() -> Iterator[None]:
    """Meet as zoo's processes do, where there is only one: the same backends, and real calls of NCCL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in told.items()}, MASTER_ADDR="127.0.0.1")
    _meet()
    try:
        yield
    finally:
        dist.destroy_process_group()


def _case(report: Report) -> Case:
    case = usual(rehearsal=report.rehearsal)
    # fp32, so that what differs is the gradients' way and not their rounding.
    return case.with_(mode=Mode(precision="fp32", layout=case.mode.layout), batch_size=8 if report.rehearsal else 32)


def nccl(report: Report) -> None:
    """Share gradients with nobody: what that costs, and whether it changes anything."""
    with group_of_one():
        report.figure("backends", str(dist.get_backend_config()))
        case = _case(report)
        _same_weights(report, case, Shared(case.network()), None)
        _cost(report, case.with_(mode=usual(rehearsal=report.rehearsal).mode))


def fsdp(report: Report) -> None:
    """Divide the weights among one, save and load the state, and compare."""
    with group_of_one():
        case = _case(report).with_(mode=Mode(precision="fp32", layout="nchw"))
        model = laid_out(case.network(), "nchw")
        average = make_average(model, EMA, divided=True)
        assert average is not None
        replica = Sharded(model, average.module)
        state = _same_weights(report, case, replica, average)
        payload = state.to_payload()
        report.figure("whole in a checkpoint", sorted(payload["model"]) == sorted(case.network().state_dict()))
        state.load(payload)
        report.figure("loaded again", True)


def sync_batchnorm(report: Report) -> None:
    """Norms whose statistics are of all processes, of which there is one: as without."""
    with group_of_one():
        case = _case(report)
        model = case.network()
        if not report.rehearsal:  # PyTorch has them for GPUs only
            model = with_shared_norms(model, report.device).to(case.device)
            names = {type(part).__name__ for part in model.modules()}
            report.figure("norms", ", ".join(sorted(name for name in names if "Sync" in name)))
        _same_weights(report, case, Shared(model), None)


def _same_weights(report: Report, case: Case, replica: Replica, average: Any) -> TrainState:
    """Take some steps with a replica and with the plain model, from the same weights on the same batches."""
    plain, its_plan = case.zoo(ema_decay=0.0)
    other, plan_beside = case.zoo(replica, ema_decay=0.0)
    other.ema = average
    batches = [case.batch(number) for number in range(STEPS)]
    # A plan moves the learning rate of one optimizer.
    for state, plan in ((plain, its_plan), (other, plan_beside)):
        state.replica.begin_epoch()
        for batch in batches:
            state.count(train_step(state, *batch, plan))
    whole = other.replica.state_of(other.model)
    gaps = [(value.cpu().double() - whole[name].cpu().double()).abs() for name, value in _weights(plain).items()]
    report.figure("largest difference of a weight", f"{max(float(gap.max()) for gap in gaps):.2e}")
    scale = max(float(value.abs().max()) for value in _weights(plain).values())
    report.figure("largest weight", scale)
    (mean, _), (beside, _) = plain.means(), other.means()
    report.figure("difference of the mean loss", f"{abs(mean - beside):.2e}")
    return other


def _weights(state: TrainState) -> dict[str, torch.Tensor]:
    return {name: value for name, value in state.model.state_dict().items() if value.is_floating_point()}


def _cost(report: Report, case: Case) -> None:
    shared = Shared(case.network())
    shared.begin_epoch()
    sides: dict[str, tuple[TrainState, Plan]] = {"alone": case.zoo(), "shared": case.zoo(shared)}
    batch, seconds = case.batch(), {name: list[float]() for name in sides}
    for turn in range(-1, 2 if report.rehearsal else ROUNDS):
        for name, (state, plan) in sides.items():
            wait(case.device)
            begin = time.perf_counter()
            for _ in range(BLOCK):
                state.count(train_step(state, *batch, plan))
            wait(case.device)
            if turn >= 0:
                seconds[name].append(time.perf_counter() - begin)
    ratio = statistics.median(a / b for a, b in zip(seconds["alone"], seconds["shared"], strict=True))
    report.figure("shared over alone", ratio)


def many(report: Report) -> None:
    """Train by the command line on all cards, each way, and compare images a second with one card."""
    cards = 2 if report.rehearsal else torch.cuda.device_count()
    report.figure("processes", cards)
    ways: dict[str, list[str]] = {"ddp": [], "fsdp": ["--fsdp"], "sync-batchnorm": ["--sync-batchnorm"]}
    if report.rehearsal:
        ways.pop("sync-batchnorm")
    alone = _trained(report, "one", 1, [])
    for name, flags in ways.items():
        rate = _trained(report, name, cards, flags)
        report.figure(f"{name}: finished", rate > 0)
        if rate > 0 and alone > 0:
            report.figure(f"{name}: images/s over one card", rate / alone)


def _trained(report: Report, name: str, processes: int, flags: list[str]) -> float:
    """Return images a second of the last epoch; 0, and the reason as a figure, if it failed."""
    tiny = report.rehearsal
    command = [sys.executable, "-m", "zoo", "train", "test_resnet" if tiny else "resnet50", "--dataset", "shapes"]
    command += ["--dataset-option", f"count={8 if tiny else 300}", "--no-pretrained", "--epochs", "1" if tiny else "2"]
    command += ["--image-size", "32" if tiny else "224", "--batch-size", str(processes * (8 if tiny else 64))]
    command += ["--precision", "fp32" if tiny else "bf16", "--layout", "nchw" if tiny else "nhwc"]
    command += ["--device", report.device, "--name", name, *flags]
    command += ["--devices", str(processes)] if processes > 1 else []
    os.environ["ZOO_RUNS"] = str(report.folder / "many")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        report.figure(f"{name}: failed", (done.stderr.strip().splitlines() or ["it said nothing"])[-1][:300])
        return 0.0
    found = re.findall(r"([\d,]+) images/s", done.stdout + done.stderr)
    return float(found[-1].replace(",", "")) if found else 0.0
