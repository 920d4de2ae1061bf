"""What classes weigh: balanced from the labels, or from a file that names each; only the training loss knows of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from zoo.errors import OptionInvalid
from zoo.records.layers import resolve_options
from zoo.training.learn.task import make_task
from zoo.training.learn.weighting import class_weights, read_weights
from zoo.training.session import start_run
from zoo.training.watch import Watch

from ..conftest import make_pictures

if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo.catalogue import Catalogue

    from ..conftest import Answer

CLASSES = ("cat", "dog", "owl")
LABELS = np.array([0] * 6 + [1] * 3 + [2])


def test_balanced_is_scikit_learns() -> None:
    wanted = compute_class_weight("balanced", classes=np.arange(3), y=LABELS)
    assert list(class_weights("balanced", LABELS, CLASSES).values()) == pytest.approx(wanted.tolist())


def test_balanced_labels_are_bounded() -> None:
    labels = np.zeros((100, 3), np.uint8)
    labels[:, 0] = 1
    labels[:25, 1] = 1
    labels[0, 2] = 1
    assert class_weights("balanced", labels, CLASSES) == {"cat": 1 / 20, "dog": 3.0, "owl": 20.0}


FILES = {
    "weights.toml": 'cat = 1\ndog = 2.5\n"owl" = 4\n',
    "weights.json": '\ufeff{"owl": 4, "cat": 1, "dog": 2.5}',
    "weights.csv": "class,weight\r\ncat,1\r\ndog,2.5\r\n\r\nowl,4\r\n",
    "plain.csv": "dog;2.5\nowl;4\ncat;1",
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_names_every_class(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(FILES[name], encoding="utf-8")
    several = np.eye(3, dtype=np.uint8)[LABELS]
    assert class_weights(str(tmp_path / name), several, CLASSES) == {"cat": 1, "dog": 2.5, "owl": 4}
    found = class_weights(str(tmp_path / name), LABELS, CLASSES)
    assert found["owl"] / found["cat"] == pytest.approx(4)
    assert np.mean([found[CLASSES[label]] for label in LABELS]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("w.toml", "cat = 1\ndog = 2\nowel = 3", "'owel', which is no class of the dataset; did you mean owl?"),
        ("w.toml", "cat = 1\nowl = 2", "no weight for 'dog'"),
        ("w.toml", "cat = 0\ndog = 1\nowl = 2", "class 'cat' the weight 0; write a positive number"),
        ("w.toml", "cat = nan\ndog = 1\nowl = 2", "positive number"),
        ("w.toml", "cat = true\ndog = 1\nowl = 2", "positive number"),
        ("w.toml", "cat =", "cannot be understood"),
        ("w.json", '{"cat": 1, "cat": 2, "dog": 1, "owl": 1}', "names class 'cat' twice"),
        ("w.json", '{"cat": {"a": 1}, "dog": 1, "owl": 1}', "positive number"),
        ("w.json", "[1, 2, 3]", "not an object"),
        ("w.json", "[" * 100_000, "cannot be understood"),
        ("w.csv", "cat,1\ndog,two\nowl,3", "class 'dog' the weight 'two'"),
        ("w.csv", "cat,1\ndog,1,2\nowl,3", "line 2 has 3 cells"),
        ("w.csv", 'cat,1\n"dog,1', "cannot be understood"),
        ("w.csv", "", "no weight for 'cat', 'dog', 'owl'"),
        ("w.yaml", "cat: 1", "neither 'balanced' nor a .toml, .json or .csv file"),
        ("none.toml", None, "cannot be read: No such file"),
    ],
)
def test_a_doubtful_file_is_refused_in_one_line(tmp_path: Path, name: str, text: str | None, reason: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(OptionInvalid) as caught:
        class_weights(str(tmp_path / name), LABELS, CLASSES)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "w.csv").write_bytes(b"caf\xe9,1")
    with pytest.raises(OptionInvalid, match="cannot be understood"):
        read_weights(tmp_path / "w.csv")


def test_weights_change_the_training_loss_and_never_the_validation_loss() -> None:
    logits, weights = torch.randn(8, 3), torch.tensor([1.0, 2.0, 4.0])
    labels = np.array([0, 1, 2, 2, 1, 0, 0, 1])
    for multi_label, own in ((False, labels), (True, np.eye(3, dtype=np.uint8)[labels])):
        plain = make_task(3, multi_label=multi_label)
        task = make_task(3, multi_label=multi_label, weights=weights)
        target = task.target(own)
        assert not torch.allclose(task.loss(logits, target), plain.loss(logits, target))
        tallies = [task.tally(), plain.tally()]
        for tally in tallies:
            tally.add(logits, target)
        assert tallies[0].figures() == tallies[1].figures()
        assert tallies[0].figures()["loss"] == pytest.approx(float(plain.loss(logits, target)))


def test_a_run_uses_and_records_them(cli: Callable[..., Answer], tmp_path: Path) -> None:
    folder = make_pictures(tmp_path / "pictures")
    for extra in sorted((folder / "class2").iterdir())[:6]:
        extra.unlink()
    Path("weights.toml").write_text("class0 = 1\nclass1 = 1\nclass2 = 3\n")
    command = ["train", "test_resnet", "--dataset", folder, "--no-pretrained", "--epochs", 1, "--image-size", 32]
    losses = {}
    for asked in ("", "balanced", "weights.toml"):
        answer = cli(*command, "--batch-size", 8, "--class-weights", asked, "--name", f"n{asked[:1]}", "--json")
        assert answer.code == 0, answer.stderr
        record = json.loads(answer.stdout)
        first = json.loads(Path("runs", f"n{asked[:1]}", "metrics.jsonl").read_text().splitlines()[0])
        losses[asked] = first["train_loss"]
        weights = record["class_weights"]
        assert set(weights) == ({"class0", "class1", "class2"} if asked else set())
        if asked == "weights.toml":
            assert weights["class2"] / weights["class0"] == pytest.approx(3)
            assert record["config"]["class_weights"] == str(Path("weights.toml").resolve())
    assert len(set(losses.values())) == 3


def test_an_unknown_file_is_told_before_anything_begins(cli: Callable[..., Answer]) -> None:
    command = ["train", "test_resnet", "--dataset", "digits", "--no-pretrained", "--class-weights"]
    for extra in (["--dry-run"], []):
        assert "cannot be read" in cli(*command, "none.toml", *extra).error


def test_a_file_of_other_classes_is_told_before_the_images_are_looked_at(catalogue: Catalogue, tmp_path: Path) -> None:
    class NoLook(Watch):
        def screening(self, done: int, total: int) -> None:
            pytest.fail("the images were looked at")

    (tmp_path / "w.toml").write_text("0 = 1\n11 = 2\n")
    given = {"model": "test_resnet", "dataset": "digits", "class_weights": str(tmp_path / "w.toml")}
    resolved = resolve_options(catalogue, {**given, "pretrained": False}, None, None)
    with pytest.raises(OptionInvalid, match="'11'"):
        start_run(catalogue, resolved, tmp_path / "run", NoLook())
