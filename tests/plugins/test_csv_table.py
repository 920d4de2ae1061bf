"""The csv dataset: a table over pictures keeps the contract, in each of its forms."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from zoo.errors import DatasetInvalid
from zoo.plugin import image_files
from zoo.testing import DatasetContract
from zoo_plugins.csv_table import csv_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..conftest import Answer


class OfATable(DatasetContract):
    name = "csv"
    header = "path,label"

    def cells(self, number: int, label: str) -> str:
        return label

    @pytest.fixture
    def states_license(self) -> bool:
        return False

    @pytest.fixture
    def options(self, zoo_pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
        def write() -> Path:
            file = tmp_path_factory.mktemp("table") / "my labels.csv"
            lines = [
                f"{picture.relative_to(zoo_pictures)},{self.cells(number, picture.parent.name)}"
                for number, picture in enumerate(image_files(zoo_pictures))
            ]
            file.write_text("\n".join([self.header, *lines]), encoding="utf-8")
            return file

        return {"file": str(self.once("table", write)), "images": str(zoo_pictures), **self.more()}

    def more(self) -> dict[str, str]:
        return {}


class TestCsv(OfATable):
    pass


class TestCsvWithSplits(OfATable):
    header = "path,label,split"

    def cells(self, number: int, label: str) -> str:
        return f"{label},{('train', 'Valid', 'test', 'train', 'TRAIN')[number % 5]}"


class TestCsvOfSeveralLabels(OfATable):
    def cells(self, number: int, label: str) -> str:
        return f"{label}|even" if number % 2 else label

    def more(self) -> dict[str, str]:
        return {"separator": "|"}


class TestCsvOfColumns(OfATable):
    header = "path,ant,bee,odd"

    def cells(self, number: int, label: str) -> str:
        return f"{int(label == 'ant')},{int(label == 'bee')},{number % 2}"

    def more(self) -> dict[str, str]:
        return {"label": "ant,bee,odd"}


def test_paths_are_relative_to_the_table_unless_a_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("a.png", "b.png", "deep/a.png", "deep/b.png"):
        (tmp_path / name).touch()
    (tmp_path / "my.csv").write_text("path,label\na.png,x\nb.png,y\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for file in ("~/my.csv", "my.csv"):
        images = csv_table(Path("unused"), file=file).splits["train"].images
        assert list(images) == [tmp_path / "a.png", tmp_path / "b.png"]
    deep = csv_table(Path("unused"), file="my.csv", images="~/deep").splits["train"].images
    assert list(deep) == [tmp_path / "deep/a.png", tmp_path / "deep/b.png"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "--dataset-option file=labels.csv"),
        ({"file": "/no/such/table.csv"}, "cannot be read: No such file"),
        ({"file": "~nobody-of-that-name/x.csv"}, "file=~nobody-of-that-name/x.csv cannot be found"),
        ({"file": "x.csv", "images": "~nobody-of-that-name"}, "images=~nobody-of-that-name cannot be found"),
    ],
)
def test_what_cannot_be_found_is_told_in_one_line(options: dict[str, str], reason: str) -> None:
    with pytest.raises(DatasetInvalid, match=reason) as caught:
        csv_table(Path("unused"), **options)
    assert "\n" not in str(caught.value)


def test_the_command_line_tells_which_line_is_wrong(cli: Callable[..., Answer], tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("path,label\na.png,x\n,y\n")
    answer = cli(
        "train", "test_resnet", "--no-pretrained", "--dataset", "csv", "--dataset-option", "file=labels.csv",
        "--image-size", "32",
    )  # fmt: skip
    assert answer.code == 1
    assert "labels.csv line 3 has an empty 'path'" in answer.error
