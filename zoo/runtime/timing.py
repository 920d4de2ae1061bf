"""Latency, measured so that a busy machine cannot favour one side: every candidate takes its turn in every round."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

WARM_UP_ROUNDS = 5
ALONE = 0.95
"""Of a process's processor time: the share of the calling thread from which on it is held to have done all the work."""


@dataclass(frozen=True)
class Timing:
    """Milliseconds of each round of one candidate; round i of all candidates ran side by side."""

    rounds_ms: np.ndarray
    own_ms: np.ndarray | None = None
    """The same in processor time of the thread that called, where the candidate did all of its work in that thread."""

    @property
    def p50(self) -> float:
        """The median, in milliseconds."""
        return float(np.percentile(self.rounds_ms, 50))

    @property
    def p95(self) -> float:
        """The 95th percentile, in milliseconds."""
        return float(np.percentile(self.rounds_ms, 95))

    @property
    def undisturbed(self) -> float:
        """The 10th percentile, in milliseconds: what it takes when nobody else has the processor's caches."""
        return _tenth(self.rounds_ms)

    def speedup_over(self, other: Timing) -> float:
        """Return how many times faster than `other` this is, undisturbed.

        On a shared machine the medians' ratio, and the median of paired ratios, moved by 6 % from run to run; this one
        by 1 %. Where others want the same core, who needs more than a scheduler's slice of a few milliseconds waits in
        every round, and who needs less never does (measured: 2.7x looked like 13x); so where both candidates work in
        one thread, that thread's processor time is compared.
        """
        if self.own_ms is not None and other.own_ms is not None:
            return _tenth(other.own_ms) / _tenth(self.own_ms)
        return other.undisturbed / self.undisturbed


def joined(timings: Sequence[Timing]) -> Timing:
    """Return the rounds of several timings of one candidate as one."""
    own = [timing.own_ms for timing in timings if timing.own_ms is not None]
    rounds = np.concatenate([timing.rounds_ms for timing in timings])
    return Timing(rounds, np.concatenate(own) if len(own) == len(timings) else None)


def interleave(
    candidates: Mapping[str, Callable[[np.ndarray], object]],
    images: np.ndarray,
    *,
    seconds: float = 3.0,
    rounds: int = 50,
) -> dict[str, Timing]:
    """Time each candidate on one image at a time, in turn, cycling through `images` (uint8 [N, H, W, 3]).

    It stops after `seconds`, but not before `rounds` rounds, so that a fast model gets a fine median and a slow one
    does not take for ever.
    """
    times: dict[str, list[np.ndarray]] = {name: [] for name in candidates}
    turns = list(candidates.items())
    end, done = 0.0, -WARM_UP_ROUNDS
    while done < rounds or time.perf_counter() < end:
        if done == 0:
            end = time.perf_counter() + seconds
        image = images[done % len(images)][None]
        # Who comes second in a round pays more often for what others did to the machine meanwhile.
        for name, predict in turns if done % 2 else reversed(turns):
            # Untimed: a device runs one model, so none should pay for the caches that the one before it emptied.
            predict(image)
            begin = _clocks()
            predict(image)
            times[name].append(_clocks() - begin)
        done += 1
    return {name: _timing(np.array(values[WARM_UP_ROUNDS:])) for name, values in times.items()}


def _clocks() -> np.ndarray:
    """Return milliseconds of the clock, of this thread's and the process's processor time; and the thread's waits."""
    seconds = time.perf_counter(), time.thread_time(), time.process_time()
    try:
        import resource

        # Voluntary ones: for a lock, another thread, process or device, and not for the processor.
        waits = float(resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw)
    except (ImportError, AttributeError):  # Linux alone can tell
        waits = math.nan
    return np.array([*(1e3 * value for value in seconds), waits])


def _timing(rounds: np.ndarray) -> Timing:
    wall, own, everyone, waits = rounds.T
    alone = np.median(own) > ALONE * np.median(everyone) and np.median(waits) == 0
    return Timing(wall, own if alone else None)


def _tenth(values: np.ndarray) -> float:
    return float(np.percentile(values, 10))
