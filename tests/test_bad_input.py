"""Bad input: one line that says what, where and what to do now; exit 1; nothing half-written."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from .conftest import Answer, make_pictures

if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo.records.run import Run

    Cli = Callable[..., Answer]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_pictures(tmp_path / "images")


def train(cli: Cli, *arguments: object) -> Answer:
    return cli("train", *arguments, "--runs", "runs")


def assert_refused(answer: Answer, *words: str) -> None:
    assert answer.code == 1, answer.stderr
    for word in words:
        assert word in answer.error
    runs = Path("runs")
    assert not runs.exists() or not any(runs.iterdir()), list(runs.rglob("*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tinny", "--dataset", "digits"], ["tinny", "tiny"]),
        (["resnet51", "--dataset", "digits"], ["resnet51", "resnet50"]),
        (["tiny", "--dataset", "digit"], ["'digit'", "digits"]),
        (["tiny", "--dataset", "digits", "--augment", "standart"], ["standart", "standard"]),
        (["tiny", "--dataset", "digits", "--recipe", "finetun"], ["finetun", "finetune"]),
        (["tiny", "--dataset", "./nowhere"], ["nowhere", "not a folder"]),
        (["tiny", "--dataset", "digits", "--set", "epocs=3"], ["epocs", "epochs", "command line"]),
        (["tiny", "--dataset", "digits", "--set", "lr=fast"], ["lr", "'fast'", "number"]),
        (["tiny", "--dataset", "digits", "--lr", "-1"], ["lr", "-1", "greater than 0"]),
        (["tiny", "--dataset", "digits", "--lr", "nan"], ["lr", "finite"]),
        (["tiny", "--dataset", "digits", "--set", "epochs"], ["--set", "KEY=VALUE"]),
        (["tiny", "--dataset", "digits", "--precision", "int3"], ["precision", "int3"]),
        (["tiny", "--dataset", "digits", "--device", "cuda:99"], ["cuda:99", "--device cpu"]),
        (["tiny", "--dataset", "digits", "--dataset-option", "colour=red"], ["colour", "digits"]),
        (["tiny", "--dataset", "digits", "--augment-option", "strenght=2"], ["strenght", "strength"]),
        (["tiny", "--dataset", "digits", "--augment-option", "strength=much"], ["strength", "much", "float"]),
        (["tiny", "--dataset", "digits", "--backbone-option", "colour=red"], ["colour"]),
        (["tiny", "--dataset", "digits", "--config", "missing.toml"], ["missing.toml"]),
        (["tiny", "--dataset", "digits", "--weights", "missing.safetensors"], ["missing.safetensors"]),
        (["vit_tiny_patch16_224", "--dataset", "digits", "--no-pretrained", "--image-size", "8"], ["8"]),
        (["tiny"], ["dataset", "zoo train"]),
        (["--dataset", "digits"], ["model", "zoo train"]),
        (["--resume"], ["no unfinished run"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_names_and_options(cli: Cli, arguments: list[str], words: list[str]) -> None:
    assert_refused(train(cli, *arguments), *words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("schema = 1\n[models.x]\nbackbone = \n", ["registry.toml:3"]),
        ("schema = 1\n[models.x", ["registry.toml:2"]),
        ("schema = 1\n[modles.x]\nbackbone = 'timm/resnet18'\n", ["registry.toml:2", "modles", "models"]),
        ("schema = 1\n\n[models.x]\nbackbon = 'timm/resnet18'\n", ["registry.toml:3", "backbon", "backbone"]),
        ("schema = 1\n[models.x]\nbackbone = 18\n", ["registry.toml:2", "backbone", "str"]),
        ("schema = 1\n[models.x]\npretrained = false\n", ["registry.toml:2", "needs backbone"]),
        ("schema = 9\n", ["schema", "upgrade"]),
        ("models = 3\n", ["models"]),
    ],
)
def test_a_wrong_registry(cli: Cli, tmp_path: Path, text: str, words: list[str]) -> None:
    (tmp_path / "registry.toml").write_text(text)
    assert_refused(cli("list", "models"), *words)


def test_a_registry_that_is_not_there(cli: Cli) -> None:
    assert_refused(cli("--registry", "missing.toml", "list", "models"), "missing.toml", "--registry")


def test_an_empty_folder(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_refused(train(cli, "tiny", "--dataset", "./empty"), "empty", "at least 2 classes")


def test_a_class_without_images(cli: Cli, folder: Path) -> None:
    (folder / "nothing").mkdir()
    assert_refused(train(cli, "tiny", "--dataset", folder), "nothing", "no image")


def test_one_class_only(cli: Cli, folder: Path) -> None:
    shutil.rmtree(folder / "class1")
    shutil.rmtree(folder / "class2")
    assert_refused(train(cli, "tiny", "--dataset", folder), "class0", "at least 2 classes")


def test_a_class_too_small_to_be_split(cli: Cli, folder: Path) -> None:
    for file in sorted((folder / "class1").iterdir())[2:]:
        file.unlink()
    assert_refused(train(cli, "tiny", "--dataset", folder), "class1", "2 usable")


def break_image(file: Path, how: str) -> None:
    data = file.read_bytes()
    broken = {
        "truncated": data[: len(data) // 2],
        "text": b"<html>not found</html>",
        "empty": b"",
        "lfs": b"version https://git-lfs",
    }
    file.write_bytes(broken[how])


@pytest.mark.parametrize("how", ["truncated", "text", "empty", "lfs"])
def test_a_broken_image_above_one_percent_is_refused_by_name(cli: Cli, folder: Path, how: str) -> None:
    break_image(folder / "class1" / "003.jpg", how)
    answer = train(cli, "tiny", "--dataset", folder)
    assert_refused(answer, "1 of 36 images", "003.jpg", "limit is 1%")


def test_a_few_broken_images_are_left_out_by_name(cli: Cli, tmp_path: Path) -> None:
    images = make_pictures(tmp_path / "many", classes=2, each=100, size=(24, 24))
    break_image(images / "class0" / "007.jpg", "truncated")
    answer = cli(
        "train", "test_resnet", "--dataset", images, "--no-pretrained", "--epochs", 1, "--image-size", 32, "--name", "n"
    )
    assert answer.code == 0, answer.stderr
    assert "left out: " in answer.stderr
    assert "007.jpg is truncated" in answer.stderr
    record = Path("runs/n/run.json").read_text()
    assert "007.jpg" in record


def test_predict_refuses_a_truncated_picture(cli: Cli, trained_run: Run, folder: Path) -> None:
    break_image(folder / "class0" / "000.jpg", "truncated")
    answer = cli("predict", folder / "class0" / "000.jpg", "--using", trained_run.path)
    assert answer.code == 1
    assert "000.jpg is truncated" in answer.error


def test_a_pipe_is_not_waited_for(cli: Cli, trained_run: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    answer = cli("predict", tmp_path / "pipe.jpg", "--using", trained_run.path)
    assert answer.code == 1
    assert "pipe.jpg is not a regular file" in answer.error


@pytest.mark.parametrize("command", ["export", "eval", "verify", "bench"])
def test_no_run_at_all(cli: Cli, command: str) -> None:
    answer = cli(command)
    assert answer.code == 1
    assert "no finished run" in answer.error


def test_a_run_directory_without_a_finished_run(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "runs" / "half").mkdir(parents=True)
    answer = cli("export", "half")
    assert answer.code == 1
    assert "no finished run" in answer.error
    assert list((tmp_path / "runs" / "half").iterdir()) == []


def test_an_unknown_run_gets_close_names(cli: Cli, trained_run: Run) -> None:
    answer = cli("export", "digit", "--runs", trained_run.path.parent)
    assert answer.code == 1
    assert "digits" in answer.error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--format", "onxx"], ["onxx", "onnx"]),
        (["--onnx", "--precision", "int3"], ["int3", "fp32, fp16, int8"]),
        (["--onnx", "--target", "raspberry-pi-6"], ["raspberry-pi-6", "raspberry-pi-5"]),
        (["--onnx", "--export-option", "calibration=minmax"], ["calibration"]),
        (["--onnx", "--int8", "--export-option", "calibration_method=magic"], ["magic"]),
        (["--onnx", "--max-drop", "-1"], ["--max-drop"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_exports(cli: Cli, trained_run: Run, arguments: list[str], words: list[str]) -> None:
    before = sorted(trained_run.path.rglob("*"))
    answer = cli("export", trained_run.path, *arguments)
    assert answer.code == 1, answer.stderr
    for word in words:
        assert word in answer.error
    assert sorted(p for p in trained_run.path.rglob("*") if p.name != "export") == [
        p for p in before if p.name != "export"
    ]


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("exploded"),))


@pytest.mark.parametrize("name", ["bomb.pt", "bomb.pth", "bomb.safetensors"])
def test_a_pickle_is_never_executed(cli: Cli, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(pickle.dumps({"state_dict": Bomb()}))
    assert_refused(train(cli, "tiny", "--dataset", "digits", "--weights", name), name)
    assert not (tmp_path / "exploded").exists()


def test_a_checkpoint_that_is_not_ours(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "runs" / "n").mkdir(parents=True)
    (tmp_path / "runs" / "n" / "last.ckpt").write_bytes(pickle.dumps(Bomb()))
    answer = cli("train", "--resume", "--name", "n")
    assert answer.code == 1
    assert "last.ckpt" in answer.error
    assert not (tmp_path / "exploded").exists()


def test_a_run_is_never_overwritten(cli: Cli, trained_run: Run) -> None:
    before = trained_run.record_file.read_bytes()
    answer = cli(
        "train", "tiny", "--dataset", "digits", "--runs", trained_run.path.parent, "--name", trained_run.path.name
    )
    assert answer.code == 1
    assert "already exists" in answer.error
    assert trained_run.record_file.read_bytes() == before


def test_a_folder_that_cannot_be_written(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where the runs should be")
    answer = train(cli, "tiny", "--dataset", "digits")
    assert answer.code == 1
    assert "runs" in answer.error


def test_an_image_larger_than_the_budget(cli: Cli, trained_run: Run, tmp_path: Path) -> None:
    Image.new("1", (9000, 9000)).save(tmp_path / "bomb.png")
    answer = cli("predict", tmp_path / "bomb.png", "--using", trained_run.path)
    assert answer.code == 1
    assert "81 megapixels" in answer.error


def test_wrong_usage_exits_2(cli: Cli) -> None:
    assert cli("train", "--epochs", "many").code == 2
    assert cli("list", "modles").code == 2
    assert cli("no-such-command").code == 2
    assert cli("export", "--onnx", "--torchscript").code == 2


def test_an_internal_error_is_one_line_unless_debugging(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise TypeError("a bug")

    monkeypatch.setattr("zoo.catalogue.registry._read", fail)
    answer = cli("list", "models")
    assert answer.code == 1
    assert "internal error: TypeError: a bug" in answer.error
    assert "Traceback" not in cli("list", "models").stderr
