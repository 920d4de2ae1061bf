"""Options of training in whole runs: they resume to the same bits, and a resume keeps them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch

from zoo.errors import Interrupted
from zoo.records.layers import resolve_options
from zoo.records.run import Run
from zoo.training.session import resume_run, start_run
from zoo.training.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zoo.catalogue import Catalogue
    from zoo.training.learn.state import TrainState

    from ..conftest import Answer

SETTINGS: dict[str, Any] = {
    "model": "test_resnet",
    "dataset": "digits",
    "image_size": 32,
    "pretrained": False,
    "augment": "none",
}
SETTINGS |= {"batch_size": 128, "lr": 2e-3, "warmup_epochs": 0}
TIMED = ("seconds", "images_per_second")


class StopFrom(Watch):
    """Asks to stop as soon as it may from a place on, and takes note of every place."""

    def __init__(self, *place: int) -> None:
        self.place = place
        self.heard: list[tuple[int, int]] = []

    def step(self, state: TrainState) -> None:
        self.heard.append((state.epoch, state.step))
        if self.place and (state.epoch, state.step) >= self.place:
            self.place = ()
            raise Interrupted


def start(catalogue: Catalogue, path: Path, watch: Watch | None = None, **given: Any) -> Run:
    return start_run(catalogue, resolve_options(catalogue, {**SETTINGS, **given}, None, None), path, watch)


def lines(run: Run) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMED} for line in found]


@pytest.mark.parametrize(
    ("place", "given"),
    [
        ((1, 5), {"accumulate": 3, "clip_grad": 1.0, "optimizer": "lion", "schedule": "onecycle", "layer_decay": 0.8}),
        pytest.param(
            (3, 2),
            {"schedule": "plateau", "decay_epochs": 1, "optimizer": "sgd", "lr": 1e-9, "monitor": "macro_f1"},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            (1, 4),
            {"freeze": "backbone", "unfreeze_epoch": 1, "optimizer": "sgd", "drop_rate": 0.2, "loss": "focal"},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["accumulate", "plateau", "unfreeze"],
)
def test_a_stopped_run_ends_in_the_same_bits(
    catalogue: Catalogue, tmp_path: Path, place: tuple[int, int], given: dict[str, Any]
) -> None:
    given = {"epochs": place[0] + 2, **given}
    whole = start(catalogue, tmp_path / "whole", **given)
    with pytest.raises(Interrupted):
        start(catalogue, tmp_path / "stopped", StopFrom(*place), **given)
    torch.manual_seed(999)
    resumed = resume_run(catalogue, Run(tmp_path / "stopped"), lambda saved: saved)
    assert resumed.best_file.read_bytes() == whole.best_file.read_bytes()
    assert lines(resumed) == lines(whole)
    if given.get("schedule") == "plateau":
        assert lines(whole)[3]["lr"] < lines(whole)[0]["lr"]


def test_a_run_stops_only_between_groups(catalogue: Catalogue, tmp_path: Path) -> None:
    watch = StopFrom()
    start(catalogue, tmp_path / "run", watch, accumulate=4, epochs=1)
    # The last place is heard of again while it is validated.
    assert list(dict.fromkeys(place for place in watch.heard if place[0] == 0)) == [(0, 4), (0, 8), (0, 11)]


def test_a_resume_keeps_its_options(cli: Callable[..., Answer], catalogue: Catalogue, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        start(catalogue, tmp_path / "runs" / "n", StopFrom(0, 2), epochs=1)
    changed = {"optimizer": "sgd", "schedule": "step", "accumulate": 2, "freeze": "backbone", "loss": "bce"}
    given = [word for name, value in changed.items() for word in (f"--{name}", value)]
    answer = cli("train", "--resume", "--runs", tmp_path / "runs", *given, "--monitor", "loss")
    assert answer.code == 1
    assert all(f"{name} was" in answer.error for name in [*changed, "monitor"])
