"""`zoo data stats` and `zoo data preview`: numbers and pictures that are the dataset's own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from zoo.data.prepared import SPLITS

from ..conftest import make_pictures

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..conftest import Answer


def test_stats_count_and_measure(cli: Callable[..., Answer], tmp_path: Path) -> None:
    folder = make_pictures(tmp_path / "photos", classes=2, each=20, size=(80, 60))
    for number in range(10):
        (folder / "class1" / f"{number:03}.jpg").unlink()
    Image.new("RGB", (200, 50), (255, 0, 0)).save(folder / "class1" / "red.png")
    answer = cli("data", "stats", folder, "--json")
    assert answer.code == 0, answer.stderr
    found = json.loads(answer.stdout)
    counts = found["per_class"]
    assert found["images"] == {split: counts["class0"][split] + counts["class1"][split] for split in SPLITS}
    assert sum(counts["class0"].values()) == 20
    assert sum(counts["class1"].values()) == 11
    assert found["imbalance"] == pytest.approx(counts["class0"]["train"] / counts["class1"]["train"], abs=0.01)
    assert (found["height"]["median"], found["width"]["median"]) == (60, 80)
    assert all(0 < value < 1 for value in (*found["mean"], *found["std"]))
    table = cli("data", "stats", folder)
    assert table.code == 0
    assert "class0" in table.stdout


def test_mean_and_std_are_those_of_the_pixels(cli: Callable[..., Answer]) -> None:
    from sklearn.datasets import load_digits

    found = json.loads(cli("data", "stats", "digits", "--json").stdout)
    pixels = np.rint(load_digits().images * (255 / 16)) / 255
    assert found["mean"] == pytest.approx([pixels.mean()] * 3, abs=0.01)
    assert found["std"] == pytest.approx([pixels.std()] * 3, abs=0.01)


def test_preview_shows_every_class(cli: Callable[..., Answer], tmp_path: Path, pictures: Path) -> None:
    answer = cli("data", "preview", pictures, "--each", "3", "--out", "sheet.png", "--json")
    assert answer.code == 0, answer.stderr
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (json.loads(answer.stdout)["height"], json.loads(answer.stdout)["width"], 3)
    assert sheet.shape[0] == 4 + 3 * (128 + 16 + 4)
    assert sheet.shape[1] == 4 + 3 * (128 + 4)
    assert sheet.std() > 20
    again = cli("data", "preview", pictures, "--each", "3", "--out", "again.png")
    assert again.code == 0
    assert np.array_equal(np.asarray(Image.open(tmp_path / "again.png")), sheet)


def test_preview_shows_one_image_as_training_sees_it(
    cli: Callable[..., Answer], tmp_path: Path, pictures: Path
) -> None:
    command = ["data", "preview", pictures, "--image", "2", "--size", "64"]
    assert cli(*command, "--augment", "heavy", "--augment-option", "strength=2").code == 0
    assert cli(*command, "--augment", "none", "--out", "plain.png").code == 0
    heavy, plain = (np.asarray(Image.open(tmp_path / name)) for name in ("preview.png", "plain.png"))
    assert heavy.shape == plain.shape == (4 + 3 * 148, 4 + 8 * 132, 3)
    assert np.array_equal(heavy[4:132, 4:132], plain[4:132, 4:132])
    assert np.array_equal(plain[4:132, 136:264], plain[4:132, 268:396])
    assert not np.array_equal(heavy[4:132, 136:264], heavy[4:132, 268:396])


def test_wrong_use_is_told_in_one_line(cli: Callable[..., Answer], tmp_path: Path, pictures: Path) -> None:
    assert cli("data", "preview", pictures, "--augment-option", "strength=2").code == 2
    assert "counted from 0" in cli("data", "preview", pictures, "--augment", "light", "--image", "999").error
    assert "did you mean light" in cli("data", "preview", pictures, "--augment", "ligth").error
    assert "no dataset is named" in cli("data", "stats", "nowhere").error
    assert not list(tmp_path.glob("*.png"))
