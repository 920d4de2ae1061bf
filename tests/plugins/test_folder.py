"""The folder dataset: every usual layout is read, every doubtful one is refused by name."""

from pathlib import Path

import pytest

from zoo.errors import DatasetInvalid
from zoo.plugin import Dataset, Split
from zoo_plugins.folder import folder


def images(root: Path, *names: str) -> Path:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return root


def read(path: Path | str) -> Dataset:
    return folder(Path("unused"), path=str(path))


def contents(split: Split) -> list[tuple[str, int]]:
    return [(Path(str(i)).name, int(n)) for i, n in zip(split.images, split.labels, strict=True)]


def test_class_folders_become_train_alone(tmp_path: Path) -> None:
    dataset = read(images(tmp_path, "dog/1.jpg", "cat/2.png", "cat/deep/3.webp", "cat/notes.txt"))
    assert dataset.classes == ("cat", "dog")
    assert list(dataset.splits) == ["train"]
    assert contents(dataset.splits["train"]) == [("2.png", 0), ("3.webp", 0), ("1.jpg", 1)]


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
def test_split_folders_are_read_under_their_usual_names(tmp_path: Path, val: str) -> None:
    images(tmp_path, "train/cat/1.jpg", "train/dog/2.jpg", f"{val}/dog/3.jpg", "test/cat/4.jpg")
    dataset = read(tmp_path)
    assert contents(dataset.splits["train"]) == [("1.jpg", 0), ("2.jpg", 1)]
    assert contents(dataset.splits["val"]) == [("3.jpg", 1)]
    assert contents(dataset.splits["test"]) == [("4.jpg", 0)]


def test_train_alone_is_enough(tmp_path: Path) -> None:
    dataset = read(images(tmp_path, "train/cat/1.jpg", "train/dog/2.jpg"))
    assert dataset.classes == ("cat", "dog")
    assert list(dataset.splits) == ["train"]


def test_labels_follow_the_order_of_train_where_val_lacks_a_class(tmp_path: Path) -> None:
    images(tmp_path, "train/ant/1.jpg", "train/bee/2.jpg", "train/cow/3.jpg", "val/cow/4.jpg", "val/bee/5.jpg")
    (tmp_path / "val" / "ant").mkdir()
    assert contents(read(tmp_path).splits["val"]) == [("5.jpg", 1), ("4.jpg", 2)]


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    images(tmp_path, "train/cat/1.jpg", "train/dog/2.jpg", "val/dog/3.jpg", "val/dog/.4.jpg", "val/.cache/5.jpg")
    images(tmp_path, ".thumbs/6.jpg", "train/.DS_Store/7.jpg")
    dataset = read(tmp_path)
    assert len(dataset.splits["train"]) == 2
    assert contents(dataset.splits["val"]) == [("3.jpg", 1)]


def test_a_class_that_is_called_train_stays_a_class(tmp_path: Path) -> None:
    dataset = read(images(tmp_path, "train/1.jpg", "plane/2.jpg"))
    assert dataset.classes == ("plane", "train")


def test_paths_are_absolute_and_the_home_sign_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images(tmp_path, "pets/cat/1.jpg", "pets/dog/2.jpg")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for path in ("~/pets", "pets", "./pets/../pets"):
        assert list(read(path).splits["train"].images) == [tmp_path / "pets/cat/1.jpg", tmp_path / "pets/dog/2.jpg"]


def test_a_class_that_train_lacks_is_refused_by_name(tmp_path: Path) -> None:
    images(tmp_path, "train/cat/1.jpg", "train/dog/2.jpg", "test/fox/3.jpg", "test/cat/4.jpg")
    with pytest.raises(DatasetInvalid, match=r"test holds a class that train lacks: fox"):
        read(tmp_path)


def test_a_split_without_an_image_is_refused(tmp_path: Path) -> None:
    images(tmp_path, "train/cat/1.jpg", "train/dog/2.jpg", "test/unsorted.jpg")
    with pytest.raises(DatasetInvalid, match="test holds no image"):
        read(tmp_path)


def test_two_names_of_one_split_are_refused(tmp_path: Path) -> None:
    images(tmp_path, "train/cat/1.jpg", "train/dog/2.jpg", "val/cat/3.jpg", "valid/dog/4.jpg")
    with pytest.raises(DatasetInvalid, match="val/ and valid/"):
        read(tmp_path)


def test_images_beside_train_are_never_dropped_in_silence(tmp_path: Path) -> None:
    images(tmp_path, "train/steam/1.jpg", "train/metro/2.jpg", "bus/3.jpg")
    (tmp_path / "annotations").mkdir()
    with pytest.raises(DatasetInvalid, match="bus lies beside train/"):
        read(tmp_path)


def test_an_empty_class_in_train_is_refused(tmp_path: Path) -> None:
    images(tmp_path, "train/cat/1.jpg", "train/dog/readme.txt")
    with pytest.raises(DatasetInvalid, match="dog holds no image"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "--dataset-option path=DIR"),
        ("/no/such/folder", "is not a folder"),
        ("~nobody-of-that-name/x", "cannot be read"),
    ],
)
def test_a_folder_that_cannot_be_read_is_told_in_one_line(path: str, reason: str) -> None:
    with pytest.raises(DatasetInvalid, match=reason) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_a_single_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalid, match="at least 2 classes"):
        read(images(tmp_path, "cat/1.jpg"))
