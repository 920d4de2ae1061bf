"""Nothing is lost: a stopped run goes on to the same bits, and says how."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
import torch

from zoo.errors import CheckpointInvalid, DatasetInvalid, EnvironmentBroken, Interrupted, RunInvalid, TrainingFailed
from zoo.records.layers import resolve_options
from zoo.records.run import Run
from zoo.training.checkpoint import Checkpoints
from zoo.training.session import resume_run, start_run
from zoo.training.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zoo.catalogue import Catalogue
    from zoo.records.config import Resolved
    from zoo.training.learn.loop import EpochResult
    from zoo.training.learn.state import TrainState

    from ..conftest import Answer

TIMED = {"seconds", "images_per_second"}


class StopAt(Watch):
    """Asks to stop once, after a given step of a given epoch."""

    def __init__(self, epoch: int, step: int) -> None:
        self.place = (epoch, step)

    def step(self, state: TrainState) -> None:
        if (state.epoch, state.step) == self.place:
            self.place = (-1, -1)
            raise Interrupted


def options(catalogue: Catalogue, **given: Any) -> Resolved:
    settings = {"model": "test_resnet", "dataset": "digits", "epochs": 3, "image_size": 32, "pretrained": False}
    settings |= {"augment": "light", "lr": 2e-3, "backbone_options": {"drop_rate": 0.2}}
    return resolve_options(catalogue, {**settings, **given}, None, None)


@pytest.fixture(scope="module")
def whole(catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that was never stopped."""
    return start_run(catalogue, options(catalogue), tmp_path_factory.mktemp("runs") / "whole")


def lines(run: Run) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMED} for line in found]


@pytest.mark.parametrize(
    "place", [(0, 1), *(pytest.param(place, marks=pytest.mark.slow) for place in ((1, 7), (2, 1))), (1, 22)], ids=str
)
def test_a_resumed_run_ends_in_the_same_bits(
    catalogue: Catalogue, whole: Run, tmp_path: Path, place: tuple[int, int]
) -> None:
    path = tmp_path / "stopped"
    with pytest.raises(Interrupted, match="--resume"):
        start_run(catalogue, options(catalogue), path, StopAt(*place))
    assert not Run(path).finished
    torch.manual_seed(999)
    resumed = resume_run(catalogue, Run(path), lambda saved: saved)
    assert resumed.best_file.read_bytes() == whole.best_file.read_bytes()
    assert lines(resumed) == lines(whole)
    assert resumed.record().metrics == whole.record().metrics


def test_a_run_can_be_stopped_while_it_is_validated(catalogue: Catalogue, whole: Run, tmp_path: Path) -> None:
    path = tmp_path / "stopped"
    places: list[tuple[int, int]] = []

    class StopInValidation(Watch):
        def step(self, state: TrainState) -> None:
            places.append((state.epoch, state.step))
            if places.count(places[-1]) == 3 and state.epoch == 1:
                raise Interrupted

    with pytest.raises(Interrupted):
        start_run(catalogue, options(catalogue), path, StopInValidation())
    last = max(step for epoch, step in places if epoch == 1)
    assert places[-3:] == [(1, last)] * 3
    resumed = resume_run(catalogue, Run(path), lambda saved: saved)
    assert resumed.best_file.read_bytes() == whole.best_file.read_bytes()
    assert resumed.metrics_file.read_bytes() == whole.metrics_file.read_bytes()


@pytest.mark.slow
def test_workers_do_not_change_the_weights(catalogue: Catalogue, whole: Run, tmp_path: Path) -> None:
    other = start_run(catalogue, options(catalogue, workers=0), tmp_path / "other")
    assert other.best_file.read_bytes() == whole.best_file.read_bytes()


@pytest.fixture
def stopped(catalogue: Catalogue, tmp_path: Path) -> Run:
    with pytest.raises(Interrupted):
        start_run(catalogue, options(catalogue), tmp_path / "runs" / "stopped", StopAt(1, 3))
    return Run(tmp_path / "runs" / "stopped")


def test_resume_refuses_options_that_would_make_another_run(cli: Callable[..., Answer], stopped: Run) -> None:
    answer = cli("train", "--resume", "--runs", stopped.path.parent, "--lr", 0.5, "--seed", 3)
    assert answer.code == 1
    assert "lr" in answer.error
    assert "seed" in answer.error


@pytest.mark.slow
def test_resume_takes_more_epochs_and_records_it(catalogue: Catalogue, stopped: Run) -> None:
    run = resume_run(catalogue, stopped, lambda saved: saved.model_copy(update={"epochs": 4}))
    assert len(lines(run)) == 4
    assert run.record().origins["epochs"] == "resume"


def test_resume_refuses_data_that_has_changed(
    catalogue: Catalogue, stopped: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo.data import prepared

    monkeypatch.setattr(prepared, "_fingerprint", lambda *_: "other")
    with pytest.raises(DatasetInvalid, match="has changed"):
        resume_run(catalogue, stopped, lambda saved: saved)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_cut_checkpoint_is_told_in_one_line(catalogue: Catalogue, stopped: Run, share: float) -> None:
    for file in (stopped.checkpoint_file, stopped.previous_checkpoint_file):
        os.truncate(file, int(file.stat().st_size * share))
    with pytest.raises(CheckpointInvalid, match=r"previous\.ckpt"):
        resume_run(catalogue, stopped, lambda saved: saved)
    stopped.previous_checkpoint_file.unlink()
    with pytest.raises(CheckpointInvalid, match=r"last\.ckpt"):
        resume_run(catalogue, stopped, lambda saved: saved)


def test_the_checkpoint_before_stands_in_for_a_damaged_one(catalogue: Catalogue, whole: Run, stopped: Run) -> None:
    os.truncate(stopped.checkpoint_file, 1000)
    heard: list[str] = []

    class Listen(Watch):
        def note(self, text: str) -> None:
            heard.append(text)

    resumed = resume_run(catalogue, stopped, lambda saved: saved, Listen())
    assert "going on from previous.ckpt" in heard[0]
    assert resumed.best_file.read_bytes() == whole.best_file.read_bytes()
    assert resumed.metrics_file.read_bytes() == whole.metrics_file.read_bytes()


def test_checkpoints_come_by_steps_and_by_time(
    catalogue: Catalogue, whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[int, int]] = []
    write = Checkpoints.write

    def note(self: Checkpoints, state: TrainState) -> None:
        written.append((state.epoch, state.step))
        write(self, state)

    monkeypatch.setattr(Checkpoints, "write", note)
    run = start_run(catalogue, options(catalogue, epochs=1, checkpoint_steps=9), tmp_path / "steps")
    assert written == [(0, 0), (0, 9), (0, 18), (1, 0)]
    written.clear()
    start_run(catalogue, options(catalogue, epochs=1, checkpoint_minutes=1e-9), tmp_path / "time")
    assert len(written) > 10
    assert sorted(path.name for path in run.path.glob("*.ckpt")) == ["last.ckpt", "previous.ckpt"]


def test_weights_that_are_not_finite_never_reach_the_disk(catalogue: Catalogue, stopped: Run) -> None:
    before = stopped.checkpoint_file.read_bytes()

    class Spoil(Watch):
        def step(self, state: TrainState) -> None:
            next(state.model.parameters()).data.fill_(float("nan"))
            raise Interrupted

    with pytest.raises(TrainingFailed, match="NaN in epoch 2, at or before step 4"):
        resume_run(catalogue, stopped, lambda saved: saved, Spoil())
    assert stopped.checkpoint_file.read_bytes() == before


def test_a_second_process_is_refused(catalogue: Catalogue, stopped: Run) -> None:
    with stopped.locked(), pytest.raises(RunInvalid, match="another process"):
        resume_run(catalogue, stopped, lambda saved: saved)
    with stopped.locked():
        pass
    assert not list(stopped.path.glob(".*"))


def test_another_version_is_told(catalogue: Catalogue, stopped: Run) -> None:
    payload = torch.load(stopped.checkpoint_file, weights_only=True)
    payload["about"]["versions"] |= {"timm": "0.1", "gone": "2.0"}
    torch.save(payload, stopped.checkpoint_file)
    heard: list[str] = []

    class Listen(Watch):
        def note(self, text: str) -> None:
            heard.append(text)

    resume_run(catalogue, stopped, lambda saved: saved, Listen())
    assert [line for line in heard if "timm was 0.1 when this run began" in line]
    assert [line for line in heard if "gone was 2.0" in line and "not installed" in line]


@pytest.mark.parametrize("damage", ["", '{"epoch": 1', '{"epoch": 1}\n{"epoch": 2}\n{"epoch": 3}\n'])
def test_metrics_come_out_whole_whatever_a_kill_left(
    catalogue: Catalogue, whole: Run, stopped: Run, damage: str
) -> None:
    stopped.metrics_file.write_text(damage)
    resumed = resume_run(catalogue, stopped, lambda saved: saved)
    assert resumed.metrics_file.read_bytes() == whole.metrics_file.read_bytes()


def test_a_checkpoint_holds_no_code(stopped: Run) -> None:
    assert torch.load(stopped.checkpoint_file, weights_only=True)["schema"] == 1


def test_a_checkpoint_keeps_the_names_that_older_ones_have(stopped: Run) -> None:
    place = torch.load(stopped.checkpoint_file, weights_only=True)["place"]
    assert list(place) == ["epoch", "step", "best_top1", "best_loss", "stale_epochs", "blend"]


def test_a_finished_run_has_nothing_to_resume(cli: Callable[..., Answer], whole: Run) -> None:
    answer = cli("train", "--resume", "--name", whole.path.name, "--runs", whole.path.parent)
    assert answer.code == 1
    assert "finished" in answer.error


def test_early_stopping_counts_epochs_without_a_better_one(catalogue: Catalogue, tmp_path: Path) -> None:
    seen: list[EpochResult] = []

    class Listen(Watch):
        def epoch(self, result: EpochResult) -> None:
            seen.append(result)

    start_run(catalogue, options(catalogue, epochs=12, patience=1, lr=1e-9), tmp_path / "run", Listen())
    assert len(seen) < 12
    assert [r.best for r in seen][-1] is False


def test_a_loss_that_is_not_finite_stops_before_anything_is_spoiled(catalogue: Catalogue, tmp_path: Path) -> None:
    path = tmp_path / "run"
    with pytest.raises(TrainingFailed, match=r"epoch 1, at or before step \d+; the last checkpoint is intact: .*--lr"):
        start_run(catalogue, options(catalogue, lr=100, warmup_epochs=0, ema_decay=0, weight_decay=10), path)
    assert not Run(path).finished
    model = torch.load(Run(path).checkpoint_file, weights_only=True)["model"]
    assert all(torch.isfinite(value).all() for value in model.values())


@pytest.mark.parametrize(
    ("number", "text"),
    [(28, "No space left on device"), pytest.param(30, "Read-only file system", marks=pytest.mark.slow)],
)
def test_a_full_or_read_only_disk_is_one_line_and_leaves_the_last_checkpoint(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, text: str
) -> None:
    real, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 8:
            raise OSError(number, text)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EnvironmentBroken, match=text):
        start_run(catalogue, options(catalogue), tmp_path / "run")
    monkeypatch.undo()
    assert not list((tmp_path / "run").glob(".*"))
    resume_run(catalogue, Run(tmp_path / "run"), lambda saved: saved)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_the_run_goes_on(tmp_path: Path, number: signal.Signals, code: int) -> None:
    command = [sys.executable, "-m", "zoo", "train", "test_resnet", "--dataset", "digits", "--no-pretrained"]
    command += ["--image-size", "32", "--epochs", "200", "--name", "n"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    metrics = tmp_path / "runs" / "n" / "metrics.jsonl"
    end = time.monotonic() + 120
    while not metrics.is_file() and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(number)
    # Spot instances and SLURM leave 30 seconds or more.
    _, stderr = process.communicate(timeout=10)
    assert process.returncode == code, stderr
    assert stderr.splitlines()[-1].startswith("zoo: stopped; go on with `zoo train --resume --name n`")
    assert "Traceback" not in stderr
    done = len(metrics.read_text().splitlines())
    command = [sys.executable, "-m", "zoo", "train", "--resume", "--epochs", str(done + 1), "--json"]
    resumed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["metrics"]["epochs"] == done + 1
    shutil.rmtree(tmp_path / "runs")
