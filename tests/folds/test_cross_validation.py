"""Cross-validation from command to sum: each fold is a run, a stop loses nothing, and mistakes are one line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from zoo.errors import Interrupted, OptionInvalid, RunInvalid, Terminated
from zoo.records.find import find_run, find_unfinished, list_runs
from zoo.records.layers import resolve_options
from zoo.records.run import Run
from zoo.records.trained import load_trained
from zoo.training.folds.result import read
from zoo.training.folds.work import read_plan, resume_folds, start_folds
from zoo.training.session import resume_run, start_run
from zoo.training.watch import Watch

from ..conftest import make_pictures
from ..train.drawn import OPTIONS, draw_dataset

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from zoo.catalogue import Catalogue
    from zoo.records.config import Resolved, TrainConfig
    from zoo.training.learn.state import TrainState

    from ..conftest import Answer

SETTINGS: dict[str, Any] = {"model": "test_resnet", "dataset": "digits", "image_size": 32, "pretrained": False}
SETTINGS |= {"augment": "none", "batch_size": 128, "lr": 2e-3, "epochs": 2, "warmup_epochs": 0, "ema_decay": 0.0}
SETTINGS |= {"precision": "fp32", "layout": "nchw"}
COMMAND = ["train", "test_resnet", "--dataset", "digits", "--no-pretrained", "--image-size", 32, "--epochs", 1]


class StopAt(Watch):
    """Asks to stop at a step of an epoch of the fold that the last note named."""

    def __init__(self, *place: int) -> None:
        self.place = place
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def step(self, state: TrainState) -> None:
        folds = [note for note in self.notes if note.startswith("fold ")]
        if self.place and (len(folds), state.epoch, state.step) >= self.place:
            self.place = ()
            raise Terminated


def options(catalogue: Catalogue, **given: Any) -> Resolved:
    return resolve_options(catalogue, {**SETTINGS, "folds": 3, **given}, None, None)


def same(saved: TrainConfig) -> TrainConfig:
    return saved


@pytest.fixture(scope="module")
def whole(catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three folds that were never stopped; not to be changed."""
    return start_folds(catalogue, options(catalogue), tmp_path_factory.mktemp("runs") / "X")


@pytest.fixture(scope="module")
def half(catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same, stopped in the second; not to be changed."""
    path = tmp_path_factory.mktemp("runs") / "X"
    with pytest.raises(Terminated, match="stopped in fold 2 of 3; go on with `zoo train --resume --name X`"):
        start_folds(catalogue, options(catalogue), path, StopAt(2, 1, 3))
    return Run(path)


@pytest.fixture
def stopped(half: Run, tmp_path: Path) -> Run:
    return Run(shutil.copytree(half.path, tmp_path / "runs" / "X"))


def bits(run: Run) -> dict[str, bytes]:
    files = ("best.safetensors", "metrics.jsonl")
    return {f"{fold.name}/{file}": (fold.path / file).read_bytes() for fold in run.folds() for file in files}


def test_every_fold_is_a_run_of_its_own(catalogue: Catalogue, whole: Run) -> None:
    assert [fold.name for fold in whole.folds()] == ["X/fold-1", "X/fold-2", "X/fold-3"]
    weights, sizes = set(), []
    for number, fold in enumerate(whole.folds(), 1):
        record = fold.record()
        assert (record.config["folds"], record.config["fold"]) == (3, number)
        assert record.origins["fold"] == "folds"
        assert fold.report_file.is_file()
        weights.add(fold.best_file.read_bytes())
        sizes.append(record.dataset_sizes)
        data = load_trained(catalogue, fold).data
        assert {name: len(split) for name, split in data.splits.items()} == record.dataset_sizes
    assert len(weights) == 3
    assert sum(size["val"] for size in sizes) == sizes[0]["train"] + sizes[0]["val"]
    assert len({size["test"] for size in sizes}) == 1


def test_the_sum_is_the_mean_over_the_folds(whole: Run) -> None:
    found, records = read(whole), [fold.record() for fold in whole.folds()]
    for split in ("val", "test"):
        for key in ("top1", "loss", "macro_f1"):
            values = [record.metrics[split][key] for record in records]
            assert found.mean[split][key] == pytest.approx(statistics.fmean(values))
            assert found.std[split][key] == pytest.approx(statistics.stdev(values))
            assert [getattr(row, split)[key] for row in found.folds] == values
        assert "images" not in found.mean[split]
    page = whole.report_file.read_text()
    assert f"{100 * found.mean['test']['top1']:.2f} % ± {100 * found.std['test']['top1']:.2f} %" in page
    assert 'href="fold-3/report.html"' in page


def test_a_fold_alone_is_the_fold_inside(catalogue: Catalogue, whole: Run, tmp_path: Path) -> None:
    alone = start_run(catalogue, options(catalogue, fold=2), tmp_path / "X" / "fold-2")
    assert alone.best_file.read_bytes() == whole.fold(2).best_file.read_bytes()
    assert alone.metrics_file.read_bytes() == whole.fold(2).metrics_file.read_bytes()
    assert alone.record().metrics == whole.fold(2).record().metrics


def test_stopped_folds_end_in_the_same_bits(catalogue: Catalogue, whole: Run, stopped: Run) -> None:
    run = find_unfinished(None, stopped.path.parent)
    assert run.path == stopped.path
    with pytest.raises(Interrupted):
        resume_folds(catalogue, run, same, StopAt(3, 0, 5))
    watch = StopAt()
    resume_folds(catalogue, run, same, watch)
    folds = [note for note in watch.notes if note.startswith("fold ")]
    assert folds == ["fold 1 of 3 is finished", "fold 2 of 3 is finished", "fold 3 of 3"]
    assert run.folds_file.read_bytes() == whole.folds_file.read_bytes()
    assert bits(run) == bits(whole)


def test_a_kill_between_two_files_loses_nothing(catalogue: Catalogue, whole: Run, stopped: Run) -> None:
    """Before the first checkpoint of a fold; before folds.json."""
    shutil.rmtree(stopped.fold(2).path)
    stopped.fold(2).path.mkdir()
    for left in (".lock", ".last.ckpt.abc"):
        (stopped.fold(2).path / left).write_bytes(b"half")
    (stopped.path / ".lock").touch()
    resume_folds(catalogue, find_unfinished(None, stopped.path.parent), same)
    assert bits(stopped) == bits(whole)
    stopped.folds_file.unlink()
    resume_folds(catalogue, find_unfinished(None, stopped.path.parent), same)
    assert stopped.folds_file.read_bytes() == whole.folds_file.read_bytes()


def test_folds_trained_elsewhere_are_summed_up(catalogue: Catalogue, whole: Run, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        shutil.copytree(whole.fold(number).path, tmp_path / "X" / f"fold-{number}")
    run = find_unfinished("X", tmp_path)
    resume_folds(catalogue, run, same)
    ours, theirs = read(run), read(whole)
    assert ours.model_copy(update={"origins": {}}) == theirs.model_copy(update={"origins": {}})
    with pytest.raises(RunInvalid, match="nothing to resume"):
        find_unfinished("X", tmp_path)


def change_record(run: Run, **changes: Any) -> None:
    record = json.loads(run.record_file.read_text())
    config = {**record["config"], **changes.pop("config", {})}
    run.record_file.write_text(json.dumps({**record, **changes, "config": config}))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"config": {"lr": 0.5}}, "lr was 0.5, not 0.002"),
        ({"config": {"fold": 1}}, "fold was 1"),
        ({"dataset_fingerprint": "0"}, "its images are not theirs"),
    ],
)
def test_folds_that_are_not_alike_are_refused(
    catalogue: Catalogue, whole: Run, tmp_path: Path, changes: Mapping[str, Any], told: str
) -> None:
    for number in (1, 2, 3):
        shutil.copytree(whole.fold(number).path, tmp_path / "X" / f"fold-{number}")
    change_record(Run(tmp_path / "X" / "fold-2"), **changes)
    with pytest.raises(RunInvalid, match=rf"fold-2 cannot be compared with the others: {told}; .*--name X`"):
        resume_folds(catalogue, Run(tmp_path / "X"), same)
    assert not (tmp_path / "X" / "folds.json").exists()


def test_another_machine_or_less_memory_make_no_other_fold(catalogue: Catalogue, whole: Run, tmp_path: Path) -> None:
    shutil.copytree(whole.path, tmp_path / "X")
    fold, origins = Run(tmp_path / "X" / "fold-2"), dict(whole.fold(2).record().origins)
    origins |= {"batch_size": "out of memory", "accumulate": "out of memory"}
    change_record(fold, origins=origins, config={"batch_size": 62, "accumulate": 2, "workers": 7, "cache": "ram"})
    (tmp_path / "X" / "folds.json").unlink()
    resume_folds(catalogue, Run(tmp_path / "X"), same)
    assert read(Run(tmp_path / "X")) == read(whole)


def test_a_resume_may_not_train_the_rest_longer(cli: Callable[..., Answer], half: Run) -> None:
    answer = cli("train", "--resume", "--runs", half.path.parent, "--epochs", 3)
    assert answer.code == 1
    assert "all train alike: epochs was 2, now 3" in answer.error


def test_a_second_process_is_refused(catalogue: Catalogue, half: Run) -> None:
    with half.locked(), pytest.raises(RunInvalid, match="another process"):
        resume_folds(catalogue, half, same)


@pytest.mark.parametrize("damage", ["", '{"config": {}}', "[1]"])
def test_a_damaged_plan_is_one_line(tmp_path: Path, damage: str) -> None:
    (tmp_path / "plan.json").write_text(damage)
    with pytest.raises(RunInvalid, match=r"plan\.json is damaged: .*; train anew"):
        read_plan(Run(tmp_path))
    (tmp_path / "plan.json").unlink()
    with pytest.raises(RunInvalid, match=r"neither plan\.json nor a finished fold"):
        read_plan(Run(tmp_path))


def test_what_the_first_fold_meets_leaves_nothing(catalogue: Catalogue, tmp_path: Path) -> None:
    folder = make_pictures(tmp_path / "pictures", each=4)
    few = options(catalogue, dataset=str(folder), folds=9)
    with pytest.raises(Exception, match="too few for 9 folds"):
        start_folds(catalogue, few, tmp_path / "runs" / "X")
    assert not (tmp_path / "runs" / "X").exists()


def test_several_labels_an_image(catalogue: Catalogue, tmp_path: Path) -> None:
    table = draw_dataset(tmp_path, count=120)
    given = {"dataset": "csv", "dataset_options": {"file": str(table), **OPTIONS}, "batch_size": 24, "epochs": 1}
    run = start_folds(catalogue, options(catalogue, **given, folds=2), tmp_path / "X")
    found = read(run)
    assert {"map", "exact", "macro_f1"} <= set(found.mean["val"])
    assert found.folds[0].val["images"] + found.folds[1].val["images"] == 100
    assert [fold.record().dataset_sizes["test"] for fold in run.folds()] == [20, 20]


def test_a_fold_alone_is_resumed_alone(catalogue: Catalogue, whole: Run, half: Run, tmp_path: Path) -> None:
    shutil.copytree(half.fold(2).path, tmp_path / "X" / "fold-2")
    run = find_unfinished(None, tmp_path)
    assert run.path == tmp_path / "X" / "fold-2"
    with pytest.raises(Interrupted, match="--resume --name X/fold-2`"):
        resume_run(catalogue, run, same, StopAt(0, 1, 9))
    resume_run(catalogue, run, same)
    assert run.best_file.read_bytes() == whole.fold(2).best_file.read_bytes()


def test_names_of_folds(whole: Run) -> None:
    root = whole.path.parent
    assert [run.name for run in list_runs(root)] == ["X/fold-3", "X/fold-2", "X/fold-1"]
    assert find_run("X/fold-2", root).path == whole.fold(2).path
    with pytest.raises(RunInvalid, match=r"did you mean .*X/fold-1"):
        find_run("X/fold-", root)
    with pytest.raises(RunInvalid, match="holds folds, each a run of its own; name one, for example X/fold-1"):
        find_run("X", root).record()


def test_the_command_prints_folds_and_their_mean(cli: Callable[..., Answer], tmp_path: Path) -> None:
    answer = cli(*COMMAND, "--folds", 2, "--name", "X")
    assert answer.code == 0, answer.stderr
    lines = answer.stdout.splitlines()
    found = json.loads((tmp_path / "runs/X/folds.json").read_text())
    mean = f"{100 * found['mean']['test']['top1']:.2f} % ± {100 * found['std']['test']['top1']:.2f} %"
    assert any(line.split()[:1] == ["mean"] and mean in line for line in lines), answer.stdout
    assert [line.split()[0] for line in lines if line.strip()[:1].isdigit()] == ["1", "2", "1", "2"]
    again = cli(*COMMAND, "--folds", 2, "--name", "X")
    assert again.code == 1
    assert "already exists; choose another --name" in again.error
    assert "nothing to resume" in cli("train", "--resume", "--name", "X").error
    (tmp_path / "runs/X/folds.json").unlink()
    resumed = cli("train", "--resume", "--json")
    assert resumed.code == 0, resumed.stderr
    assert json.loads(resumed.stdout) == {"run": "runs/X", **found}
    assert [row["name"] for row in json.loads(cli("list", "runs", "--json").stdout)] == ["X/fold-2", "X/fold-1"]
    assert json.loads(cli("show", "run", "X", "--json").stdout) == {"path": "runs/X", **found}
    for subject in ("X/fold-2", "runs/X/fold-2"):
        told = json.loads(cli("eval", subject, "--split", "val", "--json").stdout)
        assert told["top1"] == found["folds"][1]["val"]["top1"]
    assert "name one, for example X/fold-1" in cli("eval", "X").error


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--folds", 1], "option folds = 1 (from command line): write 2 to 100, or 0 for none"),
        (["--folds", 101], "option folds = 101"),
        (["--set", "fold=2"], "(from command line): say of how many with --folds N"),
        (["--folds", 3, "--set", "fold=4"], "(from command line): there are only 3, counted from 1"),
        (["--folds", 3, "--set", "fold=-1"], "option fold = '-1'"),
    ],
)
def test_mistakes_are_one_line(cli: Callable[..., Answer], arguments: list[Any], told: str, tmp_path: Path) -> None:
    answer = cli(*COMMAND, *arguments, "--name", "X")
    assert answer.code == 1
    assert told in answer.error
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_tells_folds_and_where_they_come_from(cli: Callable[..., Answer]) -> None:
    shown = json.loads(cli(*COMMAND, "--folds", 5, "--dry-run", "--json").stdout)
    assert shown["folds"] == {"value": 5, "origin": "command line"}
    assert shown["fold"] == {"value": 0, "origin": "default"}


def test_a_search_takes_one_fold_and_refuses_all(cli: Callable[..., Answer]) -> None:
    pytest.importorskip("optuna")
    search = ["tune", "test_resnet", "--dataset", "digits", "--search", "lr=1e-3..1e-2", "--set", "folds=3"]
    answer = cli(*search)
    assert answer.code == 1
    assert "one run trains one of 3 folds; say which with fold = 1" in answer.error


def test_one_run_refuses_all_folds(catalogue: Catalogue, tmp_path: Path) -> None:
    with pytest.raises(OptionInvalid, match="say which"):
        start_run(catalogue, options(catalogue), tmp_path / "run")


def test_each_fold_is_a_run_to_a_tracker(cli: Callable[..., Answer], tmp_path: Path) -> None:
    answer = cli(*COMMAND, "--folds", 2, "--name", "X", "--tracker", "tensorboard")
    assert answer.code == 0, answer.stderr
    for number in (1, 2):
        assert list((tmp_path / f"runs/X/fold-{number}").rglob("events.out*"))
    assert not list((tmp_path / "runs/X").glob("events.out*"))


def start(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "zoo", *map(str, arguments)]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_signal_loses_nothing(catalogue: Catalogue, whole: Run, tmp_path: Path, number: int, code: int) -> None:
    given = [f"--set={key}={value}" for key, value in SETTINGS.items() if key not in ("model", "dataset")]
    command = ["train", "test_resnet", "--dataset", "digits", "--folds", 3, "--name", "X", *given]
    process = start(tmp_path, *command)
    end = time.monotonic() + 120
    while not (tmp_path / "runs/X/fold-2/metrics.jsonl").is_file():
        assert time.monotonic() < end
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    os.kill(process.pid, number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == code, stderr
    assert "Traceback" not in stderr
    if number != signal.SIGKILL:
        assert stderr.splitlines()[-1].startswith("zoo: stopped in fold ")
    resumed = start(tmp_path, "train", "--resume")
    _, stderr = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, stderr
    assert bits(Run(tmp_path / "runs/X")) == bits(whole)
    assert read(Run(tmp_path / "runs/X")).mean == read(whole).mean
