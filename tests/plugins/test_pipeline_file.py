"""`--augment FILE`: a pipeline as albumentations saves it, read from any folder, refused in one line."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import albumentations as A
import numpy as np
import pytest

from zoo.errors import OptionInvalid
from zoo_plugins.pipeline_file import pipeline_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..conftest import Answer

UPSIDE_DOWN = A.Compose([A.VerticalFlip(p=1.0)])


def save(folder: Path, pipeline: Any, name: str = "pipeline.yaml") -> Path:
    A.save(pipeline, folder / name, data_format="json" if name.endswith("json") else "yaml")
    return folder / name


@pytest.mark.parametrize("name", ["pipeline.yaml", "pipeline.yml", "pipeline.json"])
def test_the_pipeline_runs_before_the_resize(name: str, tmp_path: Path) -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    image[:20] = 200
    made = pipeline_file(20, 20, path=str(save(tmp_path, UPSIDE_DOWN, name)))(image=image)["image"]
    assert made.shape == (20, 20, 3)
    assert made[:9].max() == 0
    assert made[11:].min() == 200


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is no pipeline"),
        ("{not: [yaml", "is no pipeline"),
        ("transform: {__class_fullname__: NoSuchTransform}", "is no pipeline"),
        ("- 1", "is no pipeline"),
    ],
)
def test_what_is_no_pipeline_is_refused_in_one_line(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(OptionInvalid, match=says) as caught:
        pipeline_file(8, 8, path=str(tmp_path / "bad.yaml"))
    assert "\n" not in str(caught.value)


def test_one_that_normalises_is_refused(tmp_path: Path) -> None:
    file = save(tmp_path, A.Compose([A.OneOf([A.HorizontalFlip(), A.Normalize()])]))
    with pytest.raises(OptionInvalid, match="Normalize; take that out"):
        pipeline_file(8, 8, path=str(file))


def test_it_trains_and_is_found_again(cli: Callable[..., Answer], tmp_path: Path, pictures: Path) -> None:
    save(tmp_path, UPSIDE_DOWN)
    command = ["train", "test_resnet", "--no-pretrained", "--dataset", pictures, "--image-size", "32", "--epochs", "1"]
    answer = cli(*command, "--set", "threads=1", "--augment", "pipeline.yaml", "--name", "n", "--json")
    assert answer.code == 0, answer.stderr
    run = json.loads(answer.stdout)
    assert run["config"]["augment"] == str(tmp_path / "pipeline.yaml")
    assert run["plugins"]["augmentation"] == "edgezoo"
    shutil.rmtree(tmp_path / "runs")
    answer = cli(*command, "--augment", "nowhere.yaml")
    assert "nowhere.yaml: no such pipeline" in answer.error
    assert not (tmp_path / "runs").exists()
