"""Which precision and memory layout trains a model fastest on this machine: a few steps of each, turn by turn."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from zoo.errors import fills_card
from zoo.training.machine.choose import usual_precision
from zoo.training.machine.trial import Mode, undisturbed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zoo.records.config import TrainConfig
    from zoo.training.machine.choose import Layout, Precision
    from zoo.training.machine.trial import Trial

ROUNDS = 4
LEAST_ROUNDS = 2
SECONDS = 3.0
"""After which no more rounds begin than the least."""
SHARE = 0.03
"""Of a run's steps, that timing may take; where that is too few for a figure to trust, the rule decides."""
TIE = 0.03
"""Modes this much slower than the fastest are as fast; the plainest of them is taken."""


@dataclass(frozen=True, kw_only=True)
class Fastest:
    """What was found."""

    mode: Mode
    speedup: float
    """Over the plainest mode that could run."""
    over: Mode


def possible_modes(config: TrainConfig, device: str) -> tuple[Mode, ...]:
    """Return what the options and the hardware leave to choose from, the plainest first."""
    short = usual_precision(device)
    if short == "fp32" and device.startswith("cuda"):
        short = "fp16"
    precisions: Sequence[Precision] = ["fp32", short] if config.precision == "auto" else [config.precision]
    layouts: Sequence[Layout] = ["nchw", "nhwc"] if config.layout == "auto" else [config.layout]
    # A dictionary, since where fp32 is all there is it would stand twice.
    return tuple({Mode(precision=precision, layout=layout): None for precision in precisions for layout in layouts})


def usual_mode(modes: Sequence[Mode], model: torch.nn.Module, device: str) -> Mode:
    """Return what is fastest as a rule, of those possible: the shorter precision, and channels last.

    Grouped convolutions on a CPU, as in MobileNets, want fp32: bf16 makes them slower (measured: 0.8 to 1.0 times
    as fast as plain fp32), while channels last alone makes them 1.5 to 1.8 times as fast.
    """
    grouped = any(isinstance(part, torch.nn.Conv2d) and part.groups > 1 for part in model.modules())
    exact = [mode for mode in modes if mode.precision == "fp32"] if grouped and device == "cpu" else []
    return (exact or modes)[-1]


def rounds_for(modes: Sequence[Mode], steps: int) -> int:
    """Return how often each mode may be timed in a run of so many steps; 0 where it would not pay."""
    rounds = int(SHARE * steps / len(modes)) - 1
    return min(ROUNDS, rounds) if rounds >= LEAST_ROUNDS else 0


def fastest_mode(trial: Trial, modes: Sequence[Mode], batch_size: int, rounds: int) -> Fastest | None:
    """Time steps of real size; None if no mode can run them.

    A mode that runs out of memory, or whose loss is not finite, drops out.
    """
    with undisturbed():
        seconds = _time(trial, list(modes), batch_size, rounds)
    if not seconds:
        return None
    least = min(seconds.values())
    mode = next(mode for mode in modes if seconds.get(mode, math.inf) <= least * (1 + TIE))
    over = next(iter(seconds))
    return Fastest(mode=mode, speedup=seconds[over] / seconds[mode], over=over)


def _time(trial: Trial, modes: list[Mode], batch_size: int, rounds: int) -> dict[Mode, float]:
    """Return the least seconds of a step, of those modes that can run it: a busy machine only ever adds some."""
    models = {layout: trial.copied(layout) for layout in {mode.layout for mode in modes}}
    pixels = trial.pixels(batch_size)
    found: dict[Mode, list[float]] = {mode: [] for mode in modes}
    began = time.perf_counter()
    # The first round warms up: kernels are chosen, memory is fetched.
    for turn in range(rounds + 1):
        for mode in list(found):
            before = time.perf_counter()
            try:
                good = math.isfinite(trial.step(models[mode.layout], pixels, mode))
            except RuntimeError as exc:
                if not fills_card(exc):
                    raise
                good = False
            if not good:
                del found[mode]
            elif turn:
                found[mode].append(time.perf_counter() - before)
        if turn >= LEAST_ROUNDS and time.perf_counter() - began > SECONDS:
            break
    return {mode: min(times) for mode, times in found.items()}
