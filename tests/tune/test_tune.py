"""A search from command to recipe: it goes on after a kill, prunes, refuses, and leaves no half run."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
from typing import TYPE_CHECKING, Any

import optuna
import pytest

from zoo.errors import EnvironmentBroken, OptionInvalid, TrainingFailed
from zoo.tune import study as tuning
from zoo.tune import trial as trialling
from zoo.tune.result import conclude, toml_of
from zoo.tune.study import bury_the_dead, count, open_study, work

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zoo.tune.plan import TunePlan

COMMAND = ("tune", "test_resnet", "--dataset", "digits", "--name", "it", "--no-pretrained", "--image-size", "32")
SETTINGS = ("--epochs", "1", "--set", "ema_decay=0", "--set", "cache=off", "--set", "precision=fp32")
SEARCH = ("--search", "lr=1e-4..1e-1:log", "--search", "optimizer=adamw,sgd")


@pytest.fixture
def plan(tmp_path: Path) -> TunePlan:
    """A search of two trials of the smallest model, for an epoch on digits."""
    from zoo.cli.tune import Asked, _plan

    given = {"model": "test_resnet", "dataset": "digits", "pretrained": False, "image_size": 32, "epochs": 2}
    asked = Asked(
        registry=None,
        folder=tmp_path / "tune-it",
        given={**given, "ema_decay": 0, "cache": "off", "layout": "nchw", "precision": "fp32"},
        recipe=None,
        config=None,
        search=("lr=1e-3..1e-1:log",),
        objective=(),
        trials=2,
        storage="",
        pruner="auto",
        jobs=1,
        seed=0,
    )
    return _plan(asked)


def states(study: optuna.Study) -> list[str]:
    return [trial.state.name for trial in study.get_trials()]


def quiet(text: str) -> None:
    pass


@pytest.mark.slow
def test_a_search_ends_with_a_recipe_that_train_takes(cli: Callable[..., Any], tmp_path: Path) -> None:
    answer = cli(*COMMAND, *SETTINGS, *SEARCH, "--trials", 2, "--json")
    assert answer.code == 0, answer.stderr
    told = json.loads(answer.stdout)
    assert [row["state"] for row in told["trials"]] == ["complete", "complete"]
    best = max(told["trials"], key=lambda row: row["values"]["val_top1"])
    assert told["best"] == [best["number"]]
    recipe = tomllib.loads((tmp_path / told["recipe"]).read_text())
    assert (recipe["lr"], recipe["optimizer"]) == (best["params"]["lr"], best["params"]["optimizer"])
    assert not {"model", "dataset"} & set(recipe)
    record = json.loads((tmp_path / best["run"] / "run.json").read_text())
    assert record["origins"]["lr"] == "search"
    for flag in ("--recipe", "--config"):
        dry = cli("train", "test_resnet", "--dataset", "digits", flag, told["recipe"], "--dry-run", "--json")
        assert dry.code == 0, dry.stderr
        options = json.loads(dry.stdout)
        for key in ("lr", "optimizer", "epochs", "image_size", "pretrained", "ema_decay"):
            assert options[key]["value"] == record["config"][key]
            assert told["recipe"] in options[key]["origin"]
    page = (tmp_path / "runs/tune-it/report.html").read_text()
    assert "val_top1, and the best so far" in page
    assert f"trial {best['number']}" in page


@pytest.mark.slow
def test_the_same_command_goes_on_and_another_is_refused(plan: TunePlan) -> None:
    one = dataclasses.replace(plan, trials=1)
    study = open_study(one)
    work(one, study, quiet)
    first = study.trials[0].params
    work(plan, open_study(plan), quiet)
    study = open_study(plan)
    assert states(study) == ["COMPLETE", "COMPLETE"]
    assert study.trials[0].params == first
    assert study.trials[1].params != first
    narrow = dataclasses.replace(plan, space=(dataclasses.replace(plan.space[0], high=0.5, text="lr=1e-3..0.5:log"),))
    with pytest.raises(OptionInvalid, match=r"--search lr was .*, now lr=1e-3..0.5:log; leave that"):
        open_study(narrow)


def test_a_trial_that_was_killed_is_made_again(plan: TunePlan) -> None:
    open_study(plan)
    # Without a heartbeat: what is told here is told by the worker's name alone.
    study = optuna.load_study(study_name=plan.folder.name, storage=plan.storage_url)
    killed = study.ask()
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    killed.set_user_attr(tuning.WORKER, f"{socket.gethostname()}:{done.pid}")
    half = plan.folder / "trial-000"
    half.mkdir()
    (half / "last.ckpt").write_bytes(b"half")
    alive = study.ask()
    alive.set_user_attr(tuning.WORKER, f"{socket.gethostname()}:{os.getpid()}")
    assert count(study) == (0, 2)
    notes: list[str] = []
    bury_the_dead(plan, study, notes.append)
    assert states(study) == ["FAIL", "RUNNING"]
    assert count(study) == (0, 1)
    assert not half.exists()
    assert notes == ["trial 0 was killed; another is made in its place"]


def test_a_pruned_trial_leaves_no_run(plan: TunePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "_pruner", lambda plan: optuna.pruners.ThresholdPruner(lower=2.0))
    plan = dataclasses.replace(plan, trials=1)
    study = open_study(plan)
    work(plan, study, quiet)
    assert states(study) == ["PRUNED"]
    assert list(study.trials[0].intermediate_values) == [1]
    assert not list(plan.folder.glob("trial-*"))
    with pytest.raises(TrainingFailed, match="all were pruned"):
        conclude(plan, study)


def test_a_trial_that_diverges_is_an_answer(plan: TunePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(catalogue: Any, resolved: Any, path: Path, watch: Any) -> None:
        path.mkdir()
        raise TrainingFailed("the loss is not finite")

    monkeypatch.setattr(trialling, "start_run", diverge)
    study = open_study(plan)
    work(plan, study, quiet)
    assert states(study) == ["FAIL", "FAIL"]
    assert not list(plan.folder.glob("trial-*"))
    with pytest.raises(TrainingFailed, match="the loss is not finite"):
        conclude(plan, study)


def test_any_other_error_ends_the_search(plan: TunePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any) -> None:
        raise EnvironmentBroken("the disk is full")

    monkeypatch.setattr(trialling, "start_run", full)
    study = open_study(plan)
    with pytest.raises(EnvironmentBroken, match="the disk is full"):
        work(plan, study, quiet)
    assert count(study) == (0, 0)


def test_an_objective_that_the_data_lacks_is_one_line(cli: Callable[..., Any]) -> None:
    answer = cli(*COMMAND, *SETTINGS, *SEARCH, "--objective", "val_map", "--trials", 1)
    assert answer.code == 1
    assert "--objective val_map is no figure of these runs; they have val_" in answer.error


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--search", "epochs=0..3"], "option epochs = 0"),
        (["--search", "lr=1..1000"], "option lr = 1000"),
        (["--search", "schedule=cosine,cosin"], "option schedule = 'cosin'"),
        (["--search", "augment=none,nine"], "nine"),
        (["--search", "augment_options.colour=1..2"], "colour"),
        ([], "--search lr="),
        ([*SEARCH, "--pruner", "mean"], "median, hyperband, none"),
        ([*SEARCH, "--objective", "val_top1", "--objective", "size", "--pruner", "median"], "judges by one figure"),
        ([*SEARCH, "--storage", "nowhere://x"], "name another with --storage"),
        ([*SEARCH, "--recipe", "none.toml"], "--recipe none.toml: cannot be read"),
    ],
)
def test_mistakes_are_told_before_anything_runs(
    cli: Callable[..., Any], arguments: list[str], told: str, tmp_path: Path
) -> None:
    answer = cli(*COMMAND, *SETTINGS, *arguments)
    assert answer.code == 1
    assert told in answer.error
    assert not list(tmp_path.glob("runs/tune-it/trial-*"))


def test_without_optuna_the_command_to_install_it_is_told(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *rest: None if n == "optuna" else found(n, *rest))
    assert 'pip install "edgezoo[tune]"' in cli(*COMMAND, *SEARCH).error


def test_any_option_can_stand_in_a_recipe() -> None:
    values = {"a": 'x "y"\\\n\x7fé', "b": 1e-05, "c": 3, "d": True, "e": ["x", "y"], "f": {"two words": 1, "g": "h"}}
    assert tomllib.loads(toml_of(values)) == values


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "zoo", *COMMAND, *SETTINGS, *SEARCH, *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_twelve_trials_killed_once_and_started_again(tmp_path: Path) -> None:
    """The acceptance of issue 5: SIGKILL in the middle of a trial, the same command again."""
    search = start(tmp_path, "--trials", "12")
    deadline = time.monotonic() + 300
    while not (tmp_path / "runs/tune-it/trial-004/last.ckpt").is_file():
        assert time.monotonic() < deadline
        assert search.poll() is None, search.communicate()[1]
        time.sleep(0.02)
    search.send_signal(signal.SIGKILL)
    search.communicate()
    search = start(tmp_path, "--trials", "12", "--json")
    out, err = search.communicate(timeout=500)
    assert search.returncode == 0, err
    assert "trial 4 was killed; another is made in its place" in err
    told = json.loads(out)
    assert [row["state"] for row in told["trials"]] == ["complete"] * 12
    assert 4 not in [row["number"] for row in told["trials"]]
    folders = sorted(path.name for path in (tmp_path / "runs/tune-it").glob("trial-*"))
    assert folders == [f"trial-{row['number']:03}" for row in told["trials"]]
    assert tomllib.loads((tmp_path / told["recipe"]).read_text())["epochs"] == 1
    assert set(told["importance"]["val_top1"]) == {"lr", "optimizer"}


@pytest.mark.slow
def test_a_search_that_is_asked_to_stop_says_how_to_go_on(tmp_path: Path) -> None:
    search = start(tmp_path, "--trials", "2", "--set", "epochs=200")
    while not (tmp_path / "runs/tune-it/trial-000/metrics.jsonl").is_file():
        assert search.poll() is None, search.communicate()[1]
        time.sleep(0.05)
    search.terminate()
    _, err = search.communicate(timeout=60)
    assert search.returncode == 143
    assert err.splitlines()[-1] == "zoo: stopped; the same command goes on with the search"
    assert "Traceback" not in err
    assert not list(tmp_path.glob("runs/tune-it/trial-*"))


@pytest.mark.slow
def test_two_workers_share_a_study(tmp_path: Path) -> None:
    search = start(tmp_path, "--trials", "4", "--jobs", "2", "--json")
    out, err = search.communicate(timeout=500)
    assert search.returncode == 0, err
    assert [row["state"] for row in json.loads(out)["trials"]] == ["complete"] * 4
    workers = {
        trial.user_attrs[tuning.WORKER]
        for trial in optuna.load_study(
            study_name="tune-it", storage=f"sqlite:///{tmp_path}/runs/tune-it/study.db"
        ).get_trials()
    }
    assert len(workers) == 2


@pytest.mark.slow
def test_accuracy_and_latency_give_a_front(cli: Callable[..., Any], tmp_path: Path) -> None:
    objectives = ("--objective", "val_top1", "--objective", "latency", "--objective", "size")
    answer = cli(
        *COMMAND[:6], *COMMAND[6:7], *SETTINGS, "--search", "image_size=32,64", *objectives, "--trials", 3, "--json"
    )
    assert answer.code == 0, answer.stderr
    told = json.loads(answer.stdout)
    for row in told["trials"]:
        assert 0 < row["values"]["latency"] < 1000
        assert 0 < row["values"]["size"] < 100
    for number in told["best"]:
        assert (tmp_path / f"runs/tune-it/recipe-{number:03}.toml").is_file()
