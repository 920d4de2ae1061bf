"""Latency, measured so that a busy machine cannot favour one side: every candidate takes its turn in every round."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

WARM_UP_ROUNDS = 5


@dataclass(frozen=True)
class Timing:
    """Milliseconds of each round of one candidate; round i of all candidates ran side by side."""

    rounds_ms: np.ndarray

    @property
    def p50(self) -> float:
        """The median, in milliseconds."""
        return float(np.percentile(self.rounds_ms, 50))

    @property
    def p95(self) -> float:
        """The 95th percentile, in milliseconds."""
        return float(np.percentile(self.rounds_ms, 95))

    def speedup_over(self, other: Timing) -> float:
        """Return how many times faster than `other` this is: the median of the ratios of paired rounds."""
        return float(np.median(other.rounds_ms / self.rounds_ms))


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
    times: dict[str, list[float]] = {name: [] for name in candidates}
    end, done = 0.0, -WARM_UP_ROUNDS
    while done < rounds or time.perf_counter() < end:
        if done == 0:
            end = time.perf_counter() + seconds
        image = images[done % len(images)][None]
        for name, predict in candidates.items():
            # Untimed: a device runs one model, so none should pay for the caches that the one before it emptied.
            predict(image)
            begin = time.perf_counter()
            predict(image)
            times[name].append((time.perf_counter() - begin) * 1e3)
        done += 1
    return {name: Timing(np.array(values[WARM_UP_ROUNDS:])) for name, values in times.items()}
