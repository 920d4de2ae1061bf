"""The memory that a model takes is the model's, whatever the process that asks holds."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from zoo.runtime.measure import peak_memory_mb

from ..conftest import ROOT

LARGE_MB = 600


def test_a_large_parent_does_not_count() -> None:
    held = np.ones(LARGE_MB * 1_000_000, np.uint8)
    own = peak_memory_mb()
    assert own
    assert own > LARGE_MB
    code = "from zoo.runtime.measure import peak_memory_mb; print(peak_memory_mb())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(done.stdout) < LARGE_MB
    del held
