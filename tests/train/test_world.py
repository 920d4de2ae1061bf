"""Several processes train one run: the same as one process does, stopped together, told once; killed, it goes on."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.train.pair import together
from zoo.data.loader import Shard
from zoo.errors import EnvironmentBroken, OptionInvalid
from zoo.records.layers import resolve_options
from zoo.training.folds.work import start_folds
from zoo.training.machine.replica import with_shared_norms
from zoo.training.machine.world import ALONE, Votes, World, joined, share_of_batch
from zoo.training.session import start_run

if TYPE_CHECKING:
    from zoo.catalogue import Catalogue
    from zoo.records.run import Run

OPTIONS: dict[str, Any] = {
    "model": "test_vit",
    "dataset": "digits",
    "pretrained": False,
    "image_size": 32,
    "augment": "light",
    "device": "cpu",
    "precision": "fp32",
    "layout": "nchw",
    "threads": 1,
    "workers": 1,
    "lr": 2e-3,
    "epochs": 2,
    "ema_decay": 0.9,
    "mixup": 0.2,
    "accumulate": 2,
    "clip_grad": 1.0,
    "checkpoint_minutes": 0,
}
MACHINE = {name: OPTIONS[name] for name in ("device", "threads", "workers")}
SHARDED = {**OPTIONS, "fsdp": True}
THAWED = {**OPTIONS, "freeze": "backbone", "unfreeze_epoch": 1, "mixup": 0.0}
FOLDS = {**OPTIONS, "epochs": 1, "folds": 2}
TAUGHT = {**OPTIONS, "epochs": 1}
NORMS = {**OPTIONS, "model": "test_resnet", "epochs": 1, "drop_rate": 0.2}
TRACKED = {**OPTIONS, "epochs": 1, "trackers": ["mlflow"], "tracker_options": {"experiment": "pair"}}
ORDERS: list[dict[str, Any]] = [
    {"name": "two", "options": OPTIONS},
    {"name": "sharded", "options": SHARDED},
    {"name": "thawed", "options": THAWED},
    {"name": "norms", "options": NORMS},
    {"name": "sharded-norms", "options": {**NORMS, "fsdp": True}},
    {"name": "stopped", "options": OPTIONS, "stop": [1, 1, 6]},
    {"name": "stopped", "options": OPTIONS, "resume": True},
    {"name": "sharded-stopped", "options": SHARDED, "stop": [0, 1, 6]},
    {"name": "sharded-stopped", "options": SHARDED, "resume": True},
    {"name": "small", "options": {**OPTIONS, "batch_size": 2}},
    {"name": "unknown", "options": {**OPTIONS, "model": "no_such_net"}},
    {"name": "probe", "options": {**OPTIONS, "probe": True, "mixup": 0.0}},
    {"name": "uneven", "options": {**OPTIONS, "batch_size": 66, "epochs": 1}},
    {"name": "folds", "options": FOLDS},
    {"name": "tracked", "options": TRACKED},
]


pytestmark = pytest.mark.xdist_group("world")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def told(runs: Path) -> dict[str, Any]:
    taught = {"name": "taught", "options": {**TAUGHT, "teacher": str(runs / "two")}}
    rounding = {"name": "rounding", "options": {**MACHINE, "parent": str(runs / "two"), "qat": True, "epochs": 1}}
    fitted = {"name": "fitted", "options": {**OPTIONS, "weights": str(runs / "two/best.safetensors")}}
    return together(runs, [*ORDERS, taught, rounding, fitted])


def alone(catalogue: Catalogue, path: Path, **options: Any) -> Run:
    return start_run(catalogue, resolve_options(catalogue, options, None, None), path)


def check_equal(one: Path, other: Path) -> None:
    """Weights and metrics are the same up to rounding."""
    first, second = load_file(one / "best.safetensors"), load_file(other / "best.safetensors")
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_allclose(value, second[name], rtol=1e-3, atol=2e-4, err_msg=name)
    for mine, yours in zip(lines(one), lines(other), strict=True):
        assert mine == pytest.approx(yours, rel=1e-4)


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_two_processes_train_what_one_does(
    catalogue: Catalogue, tmp_path: Path, runs: Path, told: dict[str, Any]
) -> None:
    whole = alone(catalogue, tmp_path / "alone", **OPTIONS)
    assert {rank["error"] for rank in told["sharded"]} == {""}
    check_equal(whole.path, runs / "two")
    check_equal(whole.path, runs / "sharded")
    record = json.loads((runs / "two/run.json").read_text())
    assert record["chosen"]["processes"] == 2
    assert record["metrics"]["test"]["top1"] == pytest.approx(whole.record().metrics["test"]["top1"], abs=0.006)


@pytest.mark.slow
def test_two_processes_begin_with_the_same_classifier(
    catalogue: Catalogue, tmp_path: Path, runs: Path, told: dict[str, Any]
) -> None:
    weights = str(runs / "two/best.safetensors")
    whole = alone(catalogue, tmp_path / "alone", **OPTIONS, weights=weights)
    assert {rank["error"] for rank in told["fitted"]} == {""}
    assert lines(whole.path)[0]["epoch"] == 0
    check_equal(whole.path, runs / "fitted")


@pytest.mark.slow
def test_two_processes_round_alike(runs: Path, told: dict[str, Any]) -> None:
    one, other = told["rounding"]
    assert one["error"] == ""
    assert one == other
    # Ranges follow the first process's share of a batch, so that one process alone has slightly others.
    before, after = (load_file(runs / name / "best.safetensors") for name in ("two", "rounding"))
    assert before.keys() == after.keys()
    assert lines(runs / "rounding")[0]["val_loss"] < 1.2 * lines(runs / "two")[-1]["val_loss"]


@pytest.mark.slow
def test_weights_are_divided_where_they_are_to_be(told: dict[str, Any]) -> None:
    first, second = told["sharded"]
    assert first["own"] + second["own"] == first["all"]
    assert first["own"] == pytest.approx(first["all"] / 2, rel=0.05)


def test_norms_that_see_all_batches_have_the_weights_of_plain_ones() -> None:
    import timm
    import torch

    plain = timm.create_model("test_resnet", num_classes=4)
    shared = with_shared_norms(timm.create_model("test_resnet", num_classes=4), "cuda")
    norms = [part for part in shared.modules() if isinstance(part, torch.nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert all(isinstance(norm, torch.nn.SyncBatchNorm) for norm in norms)
    plain.load_state_dict(shared.state_dict())
    with pytest.raises(OptionInvalid, match="--sync-batchnorm needs GPUs"):
        with_shared_norms(plain, "cpu")


@pytest.mark.slow
def test_what_was_frozen_moves_together_once_it_moves(
    catalogue: Catalogue, tmp_path: Path, runs: Path, told: dict[str, Any]
) -> None:
    assert told["thawed"][0]["error"] == ""
    check_equal(alone(catalogue, tmp_path / "alone", **THAWED).path, runs / "thawed")


@pytest.mark.slow
def test_a_teacher_teaches_all_of_them(catalogue: Catalogue, tmp_path: Path, runs: Path, told: dict[str, Any]) -> None:
    assert told["taught"][0]["error"] == ""
    whole = alone(catalogue, tmp_path / "alone", **TAUGHT, teacher=str(runs / "two"))
    check_equal(whole.path, runs / "taught")
    assert lines(runs / "taught")[0]["train_loss"] != lines(runs / "two")[0]["train_loss"]


@pytest.mark.slow
def test_folds_are_trained_by_all_of_them(
    catalogue: Catalogue, tmp_path: Path, runs: Path, told: dict[str, Any]
) -> None:
    assert told["folds"][0]["error"] == ""
    start_folds(catalogue, resolve_options(catalogue, FOLDS, None, None), tmp_path / "alone")
    for fold in ("fold-1", "fold-2"):
        check_equal(tmp_path / "alone" / fold, runs / "folds" / fold)
    mine, yours = (
        json.loads((folder / "folds.json").read_text())["mean"] for folder in (tmp_path / "alone", runs / "folds")
    )
    assert mine["val"] == pytest.approx(yours["val"], abs=0.01)


@pytest.mark.slow
def test_one_of_them_tells_the_trackers(runs: Path, told: dict[str, Any]) -> None:
    assert [process["error"] for process in told["tracked"]] == ["", ""]
    with sqlite3.connect(runs / "tracked/mlflow/mlflow.db") as database:
        assert database.execute("select count(*) from runs").fetchone() == (1,)


@pytest.mark.slow
def test_weights_stay_the_same_in_all_processes_while_their_batches_and_dropout_differ(told: dict[str, Any]) -> None:
    first, second = told["norms"]
    assert first["weights"] == second["weights"]
    assert len(first["weights"]) > 20


@pytest.mark.slow
def test_weights_are_divided_beside_norms_whose_statistics_are_not(runs: Path, told: dict[str, Any]) -> None:
    assert {rank["error"] for rank in told["sharded-norms"]} == {""}
    check_equal(runs / "norms", runs / "sharded-norms")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stopped", "sharded-stopped"])
def test_all_stop_at_the_same_step_whoever_was_asked_and_go_on_to_the_bit(
    runs: Path, told: dict[str, Any], name: str
) -> None:
    first, second = told[name]
    assert first["error"] == "Interrupted"
    assert "go on with `zoo train --resume" in first["text"]
    assert second["error"] == "Elsewhere"
    assert first["place"] == second["place"] == [1, 8]  # the answer comes with the next step of the optimizer
    assert told[f"{name} again"][0]["error"] == ""
    whole = runs / name.replace("stopped", "two").replace("sharded-two", "sharded")
    for file in ("best.safetensors", "metrics.jsonl"):
        assert (runs / name / file).read_bytes() == (whole / file).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("small", "OptionInvalid", "a batch of 2 images is too small for 2 processes"),
        ("unknown", "UnknownName", "no_such_net"),
        ("probe", "OptionInvalid", "--probe fits its classifier in one process"),
    ],
)
def test_what_is_wrong_is_told_by_the_first_process_only(
    told: dict[str, Any], runs: Path, name: str, kind: str, text: str
) -> None:
    first, second = told[name]
    assert first["error"] == kind
    assert text in first["text"]
    assert second["error"] == "Elsewhere"
    assert not (runs / name).exists()


@pytest.mark.slow
def test_a_batch_that_cannot_be_shared_in_pairs_gets_a_little_smaller(runs: Path, told: dict[str, Any]) -> None:
    assert told["uneven"][0]["error"] == ""
    assert json.loads((runs / "uneven/run.json").read_text())["chosen"]["batch_size"] == 64


def test_rows_are_shared_and_pairs_stay_together() -> None:
    for images, of in ((16, 2), (16, 4), (18, 3), (10, 5), (7, 2), (3, 4)):
        parts = [Shard(rank=rank, of=of).rows(images).tolist() for rank in range(of)]
        assert sorted(row for part in parts for row in part) == list(range(images))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for part in (Shard(rank=rank, of=4).rows(16).tolist() for rank in range(4)):
        assert [15 - row for row in reversed(part)] == part


def test_one_process_needs_nobody() -> None:
    with joined() as world:
        assert world == ALONE
    assert ALONE.by_first(lambda: 3) == ALONE.in_turn(lambda: 3) == ALONE.together(lambda: 3) == 3
    assert Votes(ALONE).cast(1, 0) == [1, 0]
    assert World(rank=1, size=2, local_rank=1, local_size=2).device("cuda") == "cuda:1"
    assert World(rank=1, size=2).device("cpu") == "cpu"
    assert ALONE.device("cuda:1") == "cuda:1"


@pytest.mark.parametrize(
    ("size", "images", "pairs", "got"), [(1, 7, True, 7), (2, 64, True, 64), (2, 66, True, 64), (3, 64, False, 63)]
)
def test_how_large_a_shared_batch_is(size: int, images: int, pairs: bool, got: int) -> None:
    assert share_of_batch(World(size=size), images, pairs=pairs) == got


def test_a_batch_too_small_to_share() -> None:
    with pytest.raises(OptionInvalid, match="too small for 4 processes"):
        share_of_batch(World(size=4), 7, pairs=False)


def test_processes_that_cannot_meet_are_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(EnvironmentBroken, match=r"WORLD_SIZE is 2, but RANK, .* start the processes with torchrun"),
        joined(),
    ):
        pass


# ---- the command line ---------------------------------------------------------------------------------------------


def command(folder: Path, *more: str, launcher: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    pairs = [
        f"{key}={value}" for key, value in OPTIONS.items() if key not in ("model", "dataset", "epochs", "drop_rate")
    ]
    options = ["--epochs", "30", "--set", "drop_rate=0.1", "--set", "checkpoint_steps=7"]
    words = [
        "train",
        "test_vit",
        "--dataset",
        "digits",
        *options,
        *(word for pair in pairs for word in ("--set", pair)),
    ]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    start = [sys.executable, "-m", *(launcher or ("zoo",))]
    return subprocess.Popen(
        [*start, *words, *more], cwd=folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def wait_for(file: Path, process: subprocess.Popen[str]) -> None:
    for _ in range(1200):
        if (file.is_file() and file.stat().st_size) or process.poll() is not None:
            break
        time.sleep(0.1)
    assert file.is_file(), process.communicate()[0][-3000:]


def process_of(rank: int, launcher: subprocess.Popen[str]) -> int:
    """Return the id of a process below a launcher."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int(folder.joinpath("stat").read_text().rpartition(")")[2].split()[1])
            environment = folder.joinpath("environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if parent == launcher.pid and f"RANK={rank}".encode() in environment:
            return int(folder.name)
    raise AssertionError("no such process")


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    said = process.communicate(timeout=240)[0]
    return process.returncode, said


def same(one: Path, other: Path) -> bool:
    return all((one / f).read_bytes() == (other / f).read_bytes() for f in ("best.safetensors", "metrics.jsonl"))


@pytest.mark.slow
def test_devices_launches_tells_who_was_killed_and_the_run_goes_on(tmp_path: Path) -> None:
    code, said = end(command(tmp_path, "--devices", "2", "--name", "whole"))
    assert code == 0, said
    assert said.count("epoch  30/30") == 1
    launcher = command(tmp_path, "--devices", "2", "--name", "killed")
    wait_for(tmp_path / "runs/killed/metrics.jsonl", launcher)
    os.kill(process_of(1, launcher), signal.SIGKILL)
    code, said = end(launcher)
    assert code == 1
    errors = [line for line in said.splitlines() if line.startswith("zoo: ") or "Error" in line]
    assert len(errors) == 1, said
    assert "process 1 of 2 was ended by SIGKILL" in errors[0]
    assert "zoo train --resume --name killed --devices 2" in errors[0]

    again = subprocess.run(
        [sys.executable, "-m", "zoo", "train", "--resume", "--name", "killed", "--devices", "2"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert again.returncode == 0, again.stderr
    assert same(tmp_path / "runs/killed", tmp_path / "runs/whole")

    # torchrun starts the command anew, which goes on with the run; whoever of the two was killed.
    launcher = command(
        tmp_path,
        *("--name", "elastic"),
        launcher=("torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1", "-m", "zoo"),
    )
    wait_for(tmp_path / "runs/elastic/metrics.jsonl", launcher)
    os.kill(process_of(0, launcher), signal.SIGKILL)
    code, said = end(launcher)
    assert code == 0, said[-3000:]
    assert "resuming runs/elastic" in said
    assert same(tmp_path / "runs/elastic", tmp_path / "runs/whole")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("to", ["launcher", "second"])
def test_a_signal_to_any_of_them_saves_and_stops_all(
    tmp_path: Path, number: signal.Signals, code: int, to: str
) -> None:
    launcher = command(tmp_path, "--devices", "2", "--name", "run")
    wait_for(tmp_path / "runs/run/metrics.jsonl", launcher)
    began = time.monotonic()
    os.kill(launcher.pid if to == "launcher" else process_of(1, launcher), number)
    got, said = end(launcher)
    assert time.monotonic() - began < 10
    assert got == code, said
    assert said.splitlines()[-1].startswith("zoo: stopped; go on with `zoo train --resume --name run`"), said


@pytest.mark.slow
def test_what_devices_cannot_do_is_told_before_anything_starts(tmp_path: Path) -> None:
    code, said = end(command(tmp_path, "--devices", "2", "--set", "device=auto"))
    import torch

    if torch.cuda.device_count() >= 2:
        pytest.skip("there are GPUs")
    assert code == 1
    assert said.startswith("zoo: --devices 2: PyTorch sees")
    assert said.count("\n") == 1
    code, said = end(command(tmp_path, "--fsdp"))
    assert (code, said.count("\n")) == (1, 1)
    assert "--fsdp is for several processes" in said
    code, said = end(command(tmp_path, "--fsdp", "--devices", "2", "--set", "clip_mode=agc"))
    assert (code, said.count("\n")) == (1, 1)
    assert "clip_mode = agc wants it whole" in said
    code, said = end(command(tmp_path, "--fsdp", "--devices", "2", "--dry-run"))
    assert code == 0
    assert re.search(r"fsdp +True +command line", said)
    assert not (tmp_path / "runs").exists()
