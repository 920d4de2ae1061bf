"""What is misspelt or missing is told before anything heavy loads; a dry run finds what the real one would."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from bench.startup import WRONG, lay_out

from .conftest import run_python

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Answer

HEAVY = {"torch", "timm", "torchvision", "albumentations", "cv2", "scipy", "onnx", "onnxruntime", "sklearn"}
TRAIN = ("train", "tiny", "--dataset")
SIBLINGS = {
    "column of images": (*TRAIN, "csv", "--dataset-option", "file=labels.csv", "--dataset-option", "path=img"),
    "table": (*TRAIN, "csv", "--dataset-option", "file=nowhere.csv"),
    "no classes": (*TRAIN, "./empty"),
    "tracker": (*TRAIN, "digits", "--tracker", "tensorbord"),
    "dataset's option": (*TRAIN, "webdataset", "--dataset-option", "pth=x"),
    "augmentation's option": (*TRAIN, "digits", "--augment-option", "strenght=2"),
    "timm's own": ("train", "resnet18", "--dataset", "digits", "--backbone-option", "in_chans=1"),
    "old name": ("train", "timm/resnet1", "--dataset", "digits"),
    "weights": (*TRAIN, "digits", "--weights", "nowhere.safetensors"),
    "pipeline": (*TRAIN, "digits", "--augment", "nowhere.yaml"),
    "config": (*TRAIN, "digits", "--config", "nowhere.toml"),
    "teacher": (*TRAIN, "digits", "--teacher", "nowhere"),
    "parent": ("train", "--from", "nowhere"),
    "dry run": (*TRAIN, "./nowhere", "--dry-run"),
    "resume": ("train", "--resume", "--name", "nowhere"),
    "taken": (*TRAIN, "digits", "--name", "photos"),
    "range": (*TRAIN, "digits", "--lr", "-1"),
    "precision": ("export", "--precision", "int3"),
    "exporter's option": ("export", "--onnx", "--export-option", "calibration=x"),
    "share": ("export", "--unknown", "3"),
    "bundle's target": ("bundle", "--target", "rasberry"),
    "artifact": ("verify", "nowhere"),
    "run to export": ("export", "nowhere"),
    "tuned model": ("tune", "resnet51", "--dataset", "digits", "--search", "lr=1e-4..1e-2:log"),
    "model shown": ("show", "model", "resnet51"),
    "dataset shown": ("show", "dataset", "digit"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    lay_out(tmp_path)
    (tmp_path / "runs/photos/notes.txt").touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("words", [pytest.param(words, id=name) for name, words in {**WRONG, **SIBLINGS}.items()])
def test_it_is_told_before_anything_heavy_loads(words: tuple[str, ...], folder: Path) -> None:
    before = sorted(str(path) for path in folder.rglob("*"))
    code = f"""
import sys
from zoo.cli.app import app
try:
    app({list(words)!r}, prog_name="zoo")
except SystemExit as exc:
    print(exc.code, *{HEAVY} & set(sys.modules))
"""
    done = run_python(code, cwd=folder)
    assert done.stdout.strip() == "1", done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.stderr.startswith("zoo: ")
    assert sorted(str(path) for path in folder.rglob("*")) == before


@pytest.mark.parametrize("name", sorted(WRONG))
def test_the_twelve_need_neither_numpy_nor_pydantic(name: str, folder: Path) -> None:
    code = f"""
import sys
from zoo.cli.app import app
try:
    app({list(WRONG[name])!r}, prog_name="zoo")
except SystemExit as exc:
    print(exc.code, *{{"numpy", "pydantic", "rich"}} & set(sys.modules))
"""
    assert run_python(code, cwd=folder).stdout.strip() == "1"


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(words, id=name)
        for name, words in {**WRONG, **SIBLINGS}.items()
        if words[0] == "train" and not {"--resume", "--dry-run"} & set(words)
    ],
)
def test_a_dry_run_finds_the_same(words: tuple[str, ...], folder: Path, cli: Callable[..., Answer]) -> None:
    real, dry = cli(*words), cli(*words, "--dry-run")
    assert (dry.code, dry.error) == (real.code, real.error)
    assert real.code == 1


def test_a_dry_run_touches_nothing(folder: Path, cli: Callable[..., Answer]) -> None:
    before = sorted(str(path) for path in folder.rglob("*"))
    answer = cli(*TRAIN, "digits", "--dry-run", "--json")
    assert answer.code == 0, answer.stderr
    assert json.loads(answer.stdout)["trackers"] == {"value": [], "origin": "default"}
    assert sorted(str(path) for path in folder.rglob("*")) == before


def test_timm_s_optimizers_are_read_from_its_source() -> None:
    from timm.optim import list_optimizers

    from zoo.training.learn.optimizer_names import optimizer_names

    words, certain = optimizer_names()
    known = {str(name) for name in list_optimizers()}
    assert known <= words
    assert set(certain) <= known
    assert len(certain) > 50


def test_a_picture_that_is_none_is_told_before_a_model_loads(folder: Path) -> None:
    (folder / "text.png").write_text("no picture")
    code = """
import sys, zoo
from pathlib import Path
from zoo.exporting.predict import predict_images
try:
    predict_images(None, None, [Path("text.png")], top=1)
except zoo.errors.ImageUnreadable as exc:
    print(exc)
assert not {"torch", "onnxruntime"} & set(sys.modules)
"""
    done = run_python(code, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "text.png" in done.stdout
