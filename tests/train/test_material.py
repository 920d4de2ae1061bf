"""What a run is made of, as data: kept images, resumed runs, images that break, datasets too large to be read first."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from zoo.catalogue.made.dataset import lasting_options
from zoo.data import screen as screening
from zoo.errors import DatasetInvalid, Interrupted
from zoo.exporting.evaluate import evaluate_subject
from zoo.records.layers import resolve_options
from zoo.records.run import Run
from zoo.records.trained import load_trained
from zoo.training.session import resume_run, start_run

from ..conftest import make_pictures
from .test_resume import StopAt, lines

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zoo.catalogue import Catalogue
    from zoo.records.config import Resolved

    from ..conftest import Answer


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def many(tmp_path: Path) -> Path:
    return make_pictures(tmp_path / "many", classes=2, each=110, size=(120, 90))


@pytest.fixture
def too_large_to_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screening, "MOST_FILES", 0)


def options(catalogue: Catalogue, folder: Path, **given: Any) -> Resolved:
    settings = {"model": "test_resnet", "dataset": str(folder), "epochs": 3, "image_size": 32, "pretrained": False}
    return resolve_options(catalogue, {**settings, "batch_size": 16, "lr": 2e-3, **given}, None, None)


def test_a_run_with_a_cache_resumes_to_the_same_bits(
    catalogue: Catalogue, many: Path, tmp_path: Path, home: Path
) -> None:
    with pytest.raises(Interrupted):
        start_run(catalogue, options(catalogue, many), tmp_path / "stopped", StopAt(1, 3))
    shutil.rmtree(home / "cache")
    whole = start_run(catalogue, options(catalogue, many), tmp_path / "whole")
    assert whole.record().chosen["cache"] == "disk"
    assert len(list((home / "cache").iterdir())) == 2
    resumed = resume_run(catalogue, Run(tmp_path / "stopped"), lambda saved: saved)
    assert resumed.best_file.read_bytes() == whole.best_file.read_bytes()
    assert lines(resumed) == lines(whole)
    in_memory = start_run(catalogue, options(catalogue, many, cache="ram", workers=0), tmp_path / "ram")
    assert in_memory.best_file.read_bytes() == whole.best_file.read_bytes()
    without = start_run(catalogue, options(catalogue, many, cache="off"), tmp_path / "off")
    assert without.record().chosen["cache"] == "off"
    assert without.best_file.read_bytes() != whole.best_file.read_bytes()


def test_a_cache_that_is_full_is_told_and_changes_nothing(
    cli: Callable[..., Answer], catalogue: Catalogue, many: Path, tmp_path: Path
) -> None:
    command = ["train", "test_resnet", "--dataset", many, "--no-pretrained", "--epochs", 2, "--image-size", 32]
    command += ["--batch-size", 16, "--runs", tmp_path / "runs"]
    full = cli(*command, "--name", "full", "--cache", "disk", "--cache-limit", 0.0001)
    assert full.code == 0, full.stderr
    assert "the cache keeps no more images" in full.stderr
    assert cli(*command, "--name", "roomy", "--cache", "disk").code == 0
    full_bytes, roomy_bytes = (
        (tmp_path / "runs" / name / "best.safetensors").read_bytes() for name in ("full", "roomy")
    )
    assert full_bytes == roomy_bytes


@pytest.mark.usefixtures("too_large_to_be_read")
def test_broken_images_of_a_large_dataset_are_found_while_it_trains(
    catalogue: Catalogue, many: Path, tmp_path: Path
) -> None:
    data = load_splits(catalogue, many)
    train, held_out = (next(p for p in data[split] if "class1" in str(p)) for split in ("train", "test"))
    for file in (train, held_out):
        file.write_bytes(b"x" * file.stat().st_size)
    run = start_run(catalogue, options(catalogue, many, epochs=2), tmp_path / "run")
    record = run.record()
    assert record.chosen["split_rule"] == "size"
    assert set(record.skipped_images) == {str(train), str(held_out)}
    assert record.dataset_sizes["test"] == len(data["test"]) - 1
    assert evaluate_subject(catalogue, run, "test").images == len(data["test"]) - 1
    assert len(load_trained(catalogue, run).data.splits["train"]) == len(data["train"]) - 1


def load_splits(catalogue: Catalogue, folder: Path) -> dict[str, list[Any]]:
    from zoo.catalogue.made.dataset import open_dataset
    from zoo.data.prepared import prepare

    data = prepare(open_dataset(catalogue, str(folder), {}), str(folder), seed=0)
    return {name: list(split.images) for name, split in data.splits.items()}


@pytest.mark.usefixtures("too_large_to_be_read")
def test_nothing_of_a_large_dataset_is_read_before_training(
    catalogue: Catalogue, many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("an image was read")

    monkeypatch.setattr(screening, "read_file", refuse)
    before = load_splits(catalogue, many)
    for file in sorted(many.rglob("*.jpg"))[::4]:
        file.unlink()
    after = load_splits(catalogue, many)
    for split, files in after.items():
        assert set(files) <= set(before[split])


@pytest.mark.usefixtures("too_large_to_be_read")
def test_a_disk_that_goes_away_ends_the_run_in_one_line(catalogue: Catalogue, many: Path, tmp_path: Path) -> None:
    class Away(StopAt):
        def step(self, state: Any) -> None:
            if (state.epoch, state.step) == self.place:
                shutil.rmtree(many)

    with pytest.raises(DatasetInvalid, match="cannot be used, the limit is 1%"):
        start_run(catalogue, options(catalogue, many, cache="off"), tmp_path / "run", Away(1, 1))
    assert Run(tmp_path / "run").checkpoint_file.is_file()


def test_a_run_finds_a_table_again_from_another_folder(
    cli: Callable[..., Answer], many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [f"{file.relative_to(many)},{file.parent.name}" for file in sorted(many.rglob("*.jpg"))]
    (many / "labels.csv").write_text("\n".join(["path,label", *rows]))
    monkeypatch.chdir(many)
    command = ["train", "test_resnet", "--dataset", "csv", "--dataset-option", "file=labels.csv", "--no-pretrained"]
    command += ["--epochs", "1", "--image-size", "32", "--name", "table"]
    assert cli(*command, "--runs", tmp_path / "runs").code == 0
    monkeypatch.chdir(tmp_path)
    answer = cli("eval", tmp_path / "runs" / "table", "--json")
    assert answer.code == 0, answer.stderr


def test_only_what_names_files_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.tar").touch()
    given = {
        "a": "data/a.tar",
        "b": "data/{a..b}.tar",
        "c": "user/name",
        "d": "s3://data/a.tar",
        "e": "cat,dog",
        "f": 3,
    }
    assert lasting_options({**given, "g": ""}) == {
        **given,
        "g": "",
        "a": str(tmp_path / "data" / "a.tar"),
        "b": str(tmp_path / "data" / "{a..b}.tar"),
    }


def test_the_sampler_balances_classes(cli: Callable[..., Answer], many: Path, tmp_path: Path) -> None:
    for file in sorted((many / "class1").iterdir())[20:]:
        file.unlink()
    command = ["train", "test_resnet", "--dataset", many, "--no-pretrained", "--epochs", 1, "--image-size", 32]
    answer = cli(*command, "--batch-size", 16, "--sampler", "balanced", "--runs", tmp_path / "runs", "--json")
    assert answer.code == 0, answer.stderr
    assert json.loads(answer.stdout)["config"]["sampler"] == "balanced"
    wrong = cli(*command, "--sampler", "fair", "--runs", tmp_path / "runs")
    assert wrong.code == 1
    assert "sampler" in wrong.stderr
