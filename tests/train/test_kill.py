"""A run killed at any moment, also inside a write, ends in the same bytes as one that never was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from zoo.records.layers import resolve_options
from zoo.training.session import start_run

if TYPE_CHECKING:
    from zoo.catalogue import Catalogue
    from zoo.records.run import Run

OPTIONS: dict[str, Any] = {
    "model": "test_resnet",
    "dataset": "digits",
    "pretrained": False,
    "image_size": 32,
    "augment": "light",
    "lr": 2e-3,
    "epochs": 3,
    "ema_decay": 0.9,
    "mixup": 0.2,
    "threads": 1,
    "checkpoint_steps": 3,
}


def kill(folder: Path, kills: int, seed: int, options: dict[str, Any]) -> dict[str, int]:
    script = Path(__file__).with_name("kill_loop.py")
    command = [sys.executable, str(script), str(folder / "run"), str(kills), str(seed), json.dumps(options)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=550)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


def check_same(killed: Path, whole: Run) -> None:
    for name in ("best.safetensors", "metrics.jsonl"):
        assert (killed / name).read_bytes() == (whole.path / name).read_bytes(), name
    one, other = (json.loads((path / "run.json").read_text()) for path in (killed, whole.path))
    assert one["metrics"] == other["metrics"]
    assert not list(killed.glob("*.lock"))


@pytest.mark.slow
def test_a_few_kills_leave_no_trace(catalogue: Catalogue, tmp_path: Path) -> None:
    options = {**OPTIONS, "workers": 2, "epochs": 2, "checkpoint_steps": 8}
    whole = start_run(catalogue, resolve_options(catalogue, options, None, None), tmp_path / "whole")
    found = kill(tmp_path, 4, 0, options)
    assert found["kills"] >= 3, found
    check_same(tmp_path / "run", whole)


@pytest.mark.slow
@pytest.mark.proof
@pytest.mark.parametrize("workers", [0, 2])
def test_sixty_kills_leave_no_trace(catalogue: Catalogue, tmp_path: Path, workers: int) -> None:
    options = {**OPTIONS, "workers": workers, "epochs": 30, "accumulate": 2}
    whole = start_run(catalogue, resolve_options(catalogue, options, None, None), tmp_path / "whole")
    found = kill(tmp_path, 35, workers, options)
    check_same(tmp_path / "run", whole)
    assert found["kills"] == 35, found
    assert found["inside_writes"] >= 5, found


@pytest.mark.slow
def test_kills_of_a_run_that_begins_fitted_leave_no_trace(catalogue: Catalogue, tmp_path: Path) -> None:
    options = {**OPTIONS, "workers": 2, "epochs": 2, "checkpoint_steps": 0}
    before = start_run(catalogue, resolve_options(catalogue, options, None, None), tmp_path / "before")
    options |= {"weights": str(before.best_file), "checkpoint_steps": 3, "batchnorm": "frozen"}
    whole = start_run(catalogue, resolve_options(catalogue, options, None, None), tmp_path / "whole")
    found = kill(tmp_path, 12, 3, options)
    assert json.loads(whole.metrics_file.read_text().splitlines()[0])["epoch"] == 0
    check_same(tmp_path / "run", whole)
    assert found["kills"] >= 8, found
