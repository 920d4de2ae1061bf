"""A compiled model trains the same weights under the same names."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch._dynamo.eval_frame import OptimizedModule

from zoo.disk.weights import load_weights
from zoo.errors import Interrupted, OptionInvalid
from zoo.records.layers import resolve_options
from zoo.records.run import Run
from zoo.training.machine import replica
from zoo.training.machine.compiled import compiled
from zoo.training.session import resume_run, start_run
from zoo.training.watch import Watch

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.catalogue import Catalogue
    from zoo.training.learn.state import TrainState


def train(catalogue: Catalogue, path: Path, watch: Watch | None = None, **given: Any) -> Run:
    settings = {"model": "test_resnet", "dataset": "digits", "epochs": 1, "image_size": 32, "pretrained": False}
    settings |= {"augment": "light", "device": "cpu", "precision": "fp32", "layout": "nhwc", "ema_decay": 0, **given}
    return start_run(catalogue, resolve_options(catalogue, settings, None, None), path, watch)


class Stop(Watch):
    def step(self, state: TrainState) -> None:
        if state.step == 9:
            raise Interrupted


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batch sizes that went through the compiled model, by a backend that needs no compiler."""
    found: list[int] = []
    real = OptimizedModule.__call__

    def call(self: OptimizedModule, images: torch.Tensor) -> Any:
        found.append(len(images))
        return real(self, images)

    monkeypatch.setattr(OptimizedModule, "__call__", call)
    monkeypatch.setattr(replica, "compiled", functools.partial(compiled, backend="eager"))
    return found


def test_a_compiled_run_trains_the_same_weights(catalogue: Catalogue, tmp_path: Path, calls: list[int]) -> None:
    plain = train(catalogue, tmp_path / "plain")
    assert not calls
    run = train(catalogue, tmp_path / "compiled", compile=True)
    # Only training steps: neither validation nor the final measure.
    assert len(calls) == run.record().dataset_sizes["train"] // 64
    there, wanted = load_weights(run.best_file), load_weights(plain.best_file)
    assert there.keys() == wanted.keys()
    assert all(torch.allclose(there[name].float(), wanted[name].float(), atol=1e-4) for name in wanted)
    payload = torch.load(run.checkpoint_file, weights_only=True) if run.checkpoint_file.is_file() else {"model": there}
    assert not [name for name in payload["model"] if "_orig_mod" in name]


def test_a_compiled_run_resumes(catalogue: Catalogue, tmp_path: Path, calls: list[int]) -> None:
    whole = train(catalogue, tmp_path / "whole", compile=True)
    with pytest.raises(Interrupted):
        train(catalogue, tmp_path / "stopped", Stop(), compile=True)
    resumed = resume_run(catalogue, Run(tmp_path / "stopped"), lambda saved: saved)
    assert resumed.best_file.read_bytes() == whole.best_file.read_bytes()
    assert calls


def test_what_cannot_be_compiled_is_told_in_one_line() -> None:
    with pytest.raises(OptionInvalid, match=r"--compile cannot be used here: .*; leave it out"):
        compiled(torch.nn.Linear(2, 2), "cpu", backend="no such compiler")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_real_compiler_trains_as_well(catalogue: Catalogue, tmp_path: Path) -> None:
    plain, run = train(catalogue, tmp_path / "plain"), train(catalogue, tmp_path / "compiled", compile=True)
    there, wanted = run.record().metrics["test"]["top1"], plain.record().metrics["test"]["top1"]
    assert abs(there - wanted) < 0.05
