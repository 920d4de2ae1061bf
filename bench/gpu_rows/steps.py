"""Rows of single steps: zoo's beside a bare loop and timm's, their memory, and the largest batch."""

from __future__ import annotations

import random
import statistics
import time
from typing import TYPE_CHECKING

import torch

from bench.gpu_rows.case import PLAIN, Case, Step, bare_step, timm_step, usual, wait, zoo_step

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.gpu_rows.report import Report

SIDES = {"zoo": zoo_step, "bare": bare_step, "timm": timm_step}
WARM_UP = 3


def on_cpu(report: Report) -> None:
    """Compare steps on the CPU, in CPU time of one thread: other programs do not count."""
    torch.set_num_threads(1)
    case = Case(model="test_resnet", size=64, batch_size=32, classes=10, device="cpu", mode=PLAIN, steps=1, rounds=9)
    report.figure("network", f"{case.model}, {case.size} px, batches of {case.batch_size}, fp32")
    compare(report, case, time.process_time)


def eager(report: Report) -> None:
    """Compare steps on the GPU as they are."""
    compare(report, usual(rehearsal=report.rehearsal), time.perf_counter)


def compiled(report: Report) -> None:
    """Compare compiled steps on the GPU."""
    compare(report, usual(rehearsal=report.rehearsal, compile=True), time.perf_counter)


def compare(report: Report, case: Case, clock: Callable[[], float]) -> None:
    """Measure everyone's steps, turn by turn; a figure is the median over the rounds of the ratio within a round."""
    batch = case.batch()
    sides: dict[str, Step] = {}
    for name, make in SIDES.items():
        begin = time.perf_counter()
        sides[name] = make(case, batch)
        peak = _first_steps(sides[name], case)
        if case.device.startswith("cuda"):
            report.figure(f"seconds until {name} runs", time.perf_counter() - begin)
            report.figure(f"memory of {name}, GB", peak)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(case.rounds):
        for name in random.Random(turn).sample(list(sides), len(sides)):
            seconds[name].append(_timed(sides[name], case, clock))
    for other in ("bare", "timm"):
        report.figure(f"zoo over {other}", _ratio(seconds[other], seconds["zoo"]))
    report.figure("rounds", case.rounds)
    if case.device.startswith("cuda"):
        report.figure("images a step", case.batch_size)
        for name, times in seconds.items():
            report.figure(f"images/s of {name}", case.batch_size * case.steps / statistics.median(times))


def _first_steps(step: Step, case: Case) -> float:
    """Let a side compile and choose its kernels; return the memory, in GB, that it takes beyond what was taken."""
    if not case.device.startswith("cuda"):
        for _ in range(WARM_UP):
            step()
        return 0.0
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    for _ in range(WARM_UP):
        step()
    wait(case.device)
    # The others' weights are no part of it; its own were allocated just before.
    return (torch.cuda.max_memory_allocated() - before) / 1e9


def _timed(step: Step, case: Case, clock: Callable[[], float]) -> float:
    wait(case.device)
    begin = clock()
    for _ in range(case.steps):
        step()
    wait(case.device)
    return clock() - begin


def _ratio(slow: list[float], fast: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def auto_batch(report: Report) -> None:
    """Find the largest batch as `--batch-size auto` does, and train with it."""
    from zoo.training.machine.batch_size import MOST_ON_GPU, largest_batch
    from zoo.training.machine.trial import Trial

    case = usual(rehearsal=report.rehearsal)
    begin = time.perf_counter()
    trial = Trial(model=case.network().cpu(), preprocess=case.preprocess, device=case.device)
    fits = largest_batch(trial, case.mode)
    report.figure("largest batch", fits)
    report.figure("the most that is tried", MOST_ON_GPU)
    report.figure("seconds to find it", time.perf_counter() - begin)
    if case.device == "cpu":
        fits = min(fits, 16)
    step = zoo_step(case, case.with_(batch_size=fits).batch())
    peak = _first_steps(step, case)
    report.figure("steps with it", WARM_UP)
    if case.device.startswith("cuda"):
        report.figure("memory of a step, GB", peak)
        report.figure("memory of the card, GB", torch.cuda.get_device_properties(0).total_memory / 1e9)
