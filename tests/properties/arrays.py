"""Probabilities and labels as a model and a dataset give them: any shape, ties, zeros, and rows of no numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

PROBABILITY = st.floats(0, 1, width=32) | st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
"""Often one of a few, so that there are ties."""


@dataclass(frozen=True)
class Judged:
    """Labels, int64 [N] or uint8 [N, C], and two models' float32 [N, C]; thresholds where there may be several."""

    labels: np.ndarray
    probabilities: np.ndarray
    others: np.ndarray
    thresholds: np.ndarray | None

    @property
    def classes(self) -> list[str]:
        return [f"class {number}" for number in range(self.probabilities.shape[1])]


@st.composite
def judged(draw: st.DrawFn, *, several: bool | None = None, finite: bool = False) -> Judged:
    """Draw what a model says of some images, and what is so; unless `finite`, some answers are no numbers."""
    several = draw(st.booleans()) if several is None else several
    rows, classes = draw(st.integers(1, 12)), draw(st.integers(2, 7))
    shape = (rows, classes)
    if several:
        labels = draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, 1)))
    else:
        labels = draw(hnp.arrays(np.int64, rows, elements=st.integers(0, classes - 1)))
    answers = [draw(hnp.arrays(np.float32, shape, elements=PROBABILITY)) for _ in range(2)]
    if not finite:
        for one in answers:
            for row, column in draw(st.sets(st.tuples(*(st.integers(0, size - 1) for size in shape)), max_size=3)):
                one[row, column] = np.nan
    thresholds = draw(hnp.arrays(np.float64, classes, elements=st.floats(0, 1))) if several else None
    return Judged(labels, answers[0], answers[1], thresholds)
