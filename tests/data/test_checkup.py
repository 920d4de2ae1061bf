"""`zoo data check`: planted faults are found, all of them and no other; what cannot be trained on is examined."""

from __future__ import annotations

import io
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from zoo.data.checkup.examine import examine
from zoo.data.checkup.looks import look_at
from zoo.plugin import Dataset, Split
from zoo.testing.toys import noise

from ..conftest import make_pictures

if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo.catalogue import Catalogue
    from zoo.data.checkup.findings import Checkup, Finding

    from ..conftest import Answer

    Cli = Callable[..., Answer]


def photos(count: int) -> list[Path]:
    """JPEG files of the shapes dataset, one class after the other: no two alike."""
    from zoo.disk.home import zoo_home
    from zoo_plugins.shapes import shapes

    files = shapes(zoo_home() / "datasets" / "shapes", count=12).splits["train"].images
    return [file for file in files if isinstance(file, Path)][:count]


def photo(number: int, side: int = 96) -> np.ndarray:
    """RGB uint8 [side, side, 3] of one of the shapes, each number another picture."""
    from zoo_plugins.shapes import draw

    return draw(number % 10, number // 10, (side, side))


@dataclass
class Planted:
    folder: Path
    duplicates: set[frozenset[str]] = field(default_factory=set)
    near: set[frozenset[str]] = field(default_factory=set)
    leaks: set[frozenset[str]] = field(default_factory=set)
    broken: dict[str, str] = field(default_factory=dict)


def make_over(source: Path, target: Path, number: int) -> None:
    """Write a picture again: other size, other quality."""
    with Image.open(source) as image:
        share = (0.5, 0.7, 1.0, 1.3, 0.8)[number % 5]
        small = image.resize((round(image.width * share), round(image.height * share)), Image.Resampling.LANCZOS)
        small.save(target, quality=(40, 60, 75, 50, 85)[number % 5])


def png(file: Path) -> bytes:
    target = io.BytesIO()
    with Image.open(file) as image:
        image.save(target, "PNG")
    return target.getvalue()


def break_all(files: list[Path], planted: Planted) -> None:
    """Break each file in another way; note the reason that is due."""
    ways: list[tuple[str, Callable[[bytes, Path], bytes]]] = [
        ("empty", lambda data, file: b""),
        ("truncated", lambda data, file: data[: len(data) // 2]),
        ("truncated", lambda data, file: data[:-100]),
        ("truncated", lambda data, file: png(file)[:-3000]),
        ("truncated", lambda data, file: png(file)[:-200]),
        ("not an image", lambda data, file: b"<html>404 not found</html>"),
        ("not an image", lambda data, file: noise(40, 40).tobytes()),
        ("not an image", lambda data, file: bytes(len(data))),
        ("git-lfs pointer", lambda data, file: b"version https://git-lfs.github.com/spec/v1\n"),
        ("damaged", lambda data, file: png(file)[:60] + noise(20, 20).tobytes() + png(file)[1260:]),
    ]
    for file, (reason, broken) in zip(files, ways, strict=True):
        file.write_bytes(broken(file.read_bytes(), file))
        planted.broken[str(file)] = reason


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """120 shapes in train, val and test, and faults; not to be changed."""
    found = Planted(tmp_path_factory.mktemp("planted"))
    train: list[Path] = []
    for number, source in enumerate(photos(120)):
        split = {10: "val", 11: "test"}.get(number % 12, "train")
        target = found.folder / split / source.parent.name / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
        if split == "train":
            train.append(target)
    np.random.default_rng(0).shuffle(train)
    for number in range(20):
        file = train.pop()
        copy = Path(shutil.copy(file, file.with_name(f"duplicate{number}.jpg")))
        found.duplicates.add(frozenset((str(file), str(copy))))
    for number in range(10):
        file = train.pop()
        copy = file.with_name(f"near{number}.jpg")
        make_over(file, copy, number)
        found.near.add(frozenset((str(file), str(copy))))
    for number in range(10):
        file = train.pop()
        copy = found.folder / ("val", "test")[number % 2] / file.parent.name / f"leak{number}.jpg"
        if number < 5:
            shutil.copy(file, copy)
        else:
            make_over(file, copy, number)
        found.leaks.add(frozenset((str(file), str(copy))))
    break_all([train.pop() for _ in range(10)], found)
    return found


def groups(report: Any, *kinds: str) -> set[frozenset[str]]:
    """The paths of each case of some kinds."""
    return {
        frozenset(image["path"] for image in case["images"])
        for finding in report["findings"]
        if finding["kind"] in kinds
        for case in finding["cases"]
    }


def test_every_planted_fault_is_found_and_no_other(cli: Cli, planted: Planted, tmp_path: Path) -> None:
    answer = cli("data", "check", planted.folder, "--json")
    assert answer.code == 3, answer.stderr
    assert "unreadable" in answer.error
    assert "several splits" in answer.error
    report = json.loads(answer.stdout)
    assert report["healthy"] is False
    assert sum(report["images"].values()) == 160
    severities = [finding["severity"] for finding in report["findings"]]
    assert severities == sorted(severities, key=("error", "warning", "remark").index)
    assert groups(report, "duplicate") == planted.duplicates
    assert groups(report, "near-duplicate") == planted.near
    assert groups(report, "leak", "near-leak") == planted.leaks
    broken = {case["images"][0]["path"]: case["reason"] for case in of_kind(report, "unreadable")["cases"]}
    assert broken == planted.broken
    assert {finding["kind"] for finding in report["findings"] if finding["severity"] == "error"} == {
        "unreadable",
        "leak",
        "near-leak",
    }
    page = (tmp_path / report["page"]).read_text()
    assert report["page"] == "check.html"
    assert page.count("data:image/jpeg;base64,") >= 2 * (20 + 10 + 10)
    assert "http" not in page.replace("<html", "")
    assert all(Path(name).name in page for name in (*planted.broken, *set().union(*planted.leaks)))
    assert len(page) < 1_000_000


def of_kind(report: Any, kind: str) -> Any:
    (finding,) = [finding for finding in report["findings"] if finding["kind"] == kind]
    return finding


def test_the_table_says_what_and_how_many_and_what_to_do(cli: Cli, planted: Planted) -> None:
    answer = cli("data", "check", planted.folder, "--no-page")
    assert answer.code == 3
    assert not Path("check.html").exists()
    lines = " ".join(answer.stdout.split())
    for words in ("10 images", "20 pairs", "5 pairs", "4 truncated", "download them again", "and 17 more"):
        assert words in lines, answer.stdout
    assert answer.stdout.count(planted.folder.name) == 1


def test_a_sound_dataset_passes(cli: Cli, pictures: Path, tmp_path: Path) -> None:
    answer = cli("data", "check", pictures, "--page", "out/page.html", "--json")
    assert answer.code == 0, answer.stderr
    report = json.loads(answer.stdout)
    assert report["healthy"] is True
    assert [finding["kind"] for finding in report["findings"] if finding["severity"] != "remark"] == ["small-class"]
    assert set(report["images"]) == {"train", "val", "test"}
    assert (tmp_path / "out/page.html").is_file()


def test_digits_are_too_small_for_near_duplicates(cli: Cli) -> None:
    report = json.loads(cli("data", "check", "digits", "--json", "--no-page").stdout)
    assert {finding["kind"]: finding["images"] for finding in report["findings"]} == {
        "tiny-image": 1797,
        "not-compared": 1797,
    }
    assert all(finding["severity"] == "remark" for finding in report["findings"])


def test_places_are_those_of_the_splits_that_are_cut(cli: Cli, catalogue: Catalogue, tmp_path: Path) -> None:
    from zoo.catalogue.made.dataset import open_dataset
    from zoo.data.prepared import prepare

    folder = make_pictures(tmp_path / "photos", size=(40, 40))
    (folder / "class0" / "005.jpg").write_bytes(b"")
    report = json.loads(cli("data", "check", folder, "--json", "--seed", 3).stdout)
    data = prepare(open_dataset(catalogue, str(folder), {}), "photos", seed=3, max_broken=1.0)
    images = of_kind(report, "small-image")["cases"]
    assert len(images) == 35
    for case in images:
        (image,) = case["images"]
        assert str(data.splits[image["split"]].images[image["index"]]) == image["path"]
    (broken,) = of_kind(report, "unreadable")["cases"][0]["images"]
    assert (broken["split"], broken["index"], broken["source_index"]) == ("train", None, 5)


def test_an_ill_dataset_is_examined_all_the_same(cli: Cli, tmp_path: Path) -> None:
    folder = make_pictures(tmp_path / "photos", classes=2, each=12)
    for file in (folder / "class1").iterdir():
        file.write_text("no picture")
    shutil.copy(folder / "class0" / "000.jpg", folder / "class0" / "copy.jpg")
    answer = cli("data", "check", folder, "--json")
    assert answer.code == 3
    assert "class1" in answer.error
    report = json.loads(answer.stdout)
    assert "class1" in of_kind(report, "cannot-train")["cases"][0]["detail"]
    assert of_kind(report, "unreadable")["count"] == 12
    assert of_kind(report, "duplicate")["count"] == 1
    assert of_kind(report, "missing-class")["cases"][0]["class"] == "class1"
    assert report["images"] == {"train": 25}


def test_wrong_use_is_told_in_one_line(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "at least 2 classes" in cli("data", "check", "./empty").error
    assert "no dataset is named" in cli("data", "check", "nowhere").error
    assert "not a folder" in cli("data", "check", "./nowhere").error
    assert "no option 'colour'" in cli("data", "check", "digits", "--dataset-option", "colour=red").error
    assert cli("data", "check", "digits", "--page", "empty").code == 2
    assert not list(tmp_path.glob("*.html"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read(cli: Cli, tmp_path: Path) -> None:
    folder = make_pictures(tmp_path / "photos")
    folder.chmod(0)
    try:
        assert "photos" in cli("data", "check", folder).error
    finally:
        folder.chmod(0o755)


def check(images: list[Any], labels: np.ndarray | None = None, **more: Any) -> Checkup:
    """Examine a dataset of 2 classes with all three splits, the images going to train."""
    labels = np.arange(len(images)) % 2 if labels is None else labels
    several = labels.ndim == 2
    filling = [photo(40 + number) for number in range(4)]
    pair = np.eye(2, dtype=np.uint8)[[0, 1]] if several else np.array([0, 1])
    splits = {
        "train": Split(images=images, labels=labels),
        "val": Split(images=filling[:2], labels=pair),
        "test": Split(images=filling[2:], labels=pair),
        **more,
    }
    return examine(Dataset(classes=("a", "b"), splits=splits, multi_label=several), "toy", seed=0)


def finding(checkup: Checkup, kind: str) -> Finding | None:
    return next((found for found in checkup.findings if found.kind == kind), None)


def places(found: Finding | None) -> list[list[tuple[str, int | None]]]:
    assert found is not None
    return [[(picture.split, picture.index) for picture in case.pictures] for case in found.cases]


def test_the_same_picture_under_two_classes_is_an_error() -> None:
    images = [photo(number) for number in range(20)]
    images[7] = images[2].copy()
    checkup = check(images)
    assert places(finding(checkup, "label-conflict")) == [[("train", 2), ("train", 7)]]
    assert [found.kind for found in checkup.errors] == ["label-conflict"]
    assert finding(checkup, "duplicate") is None


def test_nearly_the_same_picture_under_two_classes_is_a_warning() -> None:
    images: list[Any] = [photo(number) for number in range(20)]
    file = io.BytesIO()
    Image.fromarray(images[2]).save(file, "JPEG", quality=60)
    images[7] = file.getvalue()
    checkup = check(images)
    assert places(finding(checkup, "near-label-conflict")) == [[("train", 2), ("train", 7)]]
    assert checkup.errors == []


def test_equal_pixels_in_other_files_are_the_same_picture() -> None:
    images: list[Any] = [photo(number) for number in range(20)]
    for number, format_ in ((3, "PNG"), (5, "BMP")):
        file = io.BytesIO()
        Image.fromarray(images[1]).save(file, format_)
        images[number] = file.getvalue()
    found = finding(check(images), "duplicate")
    assert places(found) == [[("train", 1), ("train", 3), ("train", 5)]]
    assert found is not None
    assert found.extent == "1 group of 3 images"
    assert found.cases[0].facts["how"] == "same-pixels"


def test_a_mirrored_copy_of_another_class_is_left_alone() -> None:
    images = [photo(number) for number in range(20)]
    images[4] = np.asarray(ImageOps.mirror(Image.fromarray(images[2])))
    images[9] = np.asarray(ImageOps.mirror(Image.fromarray(images[6])))
    checkup = check(images)
    found = finding(checkup, "near-duplicate")
    assert places(found) == [[("train", 2), ("train", 4)]]
    assert found is not None
    assert found.cases[0].facts["how"] == ["mirrored"]
    assert finding(checkup, "near-label-conflict") is None


def test_a_near_duplicate_of_a_copy_is_told_with_all_copies() -> None:
    images: list[Any] = [photo(number) for number in range(20)]
    file = io.BytesIO()
    Image.fromarray(images[2]).save(file, "JPEG", quality=60)
    val = Split(images=[images[2], photo(71)], labels=np.array([0, 1]))
    checkup = check([*images, file.getvalue(), photo(99)], val=val)
    assert places(finding(checkup, "leak")) == [[("train", 2), ("val", 0)]]
    assert [sorted(case, key=str) for case in places(finding(checkup, "near-leak"))] == [
        [("train", 2), ("train", 20), ("val", 0)]
    ]


def test_a_multi_label_dataset() -> None:
    images = [photo(number) for number in range(24)]
    images[7] = images[2].copy()
    images[9] = images[3].copy()
    labels = np.tile(np.array([[1, 0], [0, 1], [1, 1]], np.uint8), (8, 1))
    labels[[2, 7]] = (1, 1), (1, 0)
    labels[[3, 9]] = (1, 1), (1, 1)
    checkup = check(images, labels)
    assert checkup.multi_label
    assert places(finding(checkup, "label-conflict")) == [[("train", 2), ("train", 7)]]
    assert places(finding(checkup, "duplicate")) == [[("train", 3), ("train", 9)]]
    (case,) = checkup.errors[0].to_json()["cases"]
    assert [image["classes"] for image in case["images"]] == [["a", "b"], ["a"]]


def test_splits_of_a_multi_label_dataset_are_cut() -> None:
    labels = np.tile(np.array([[1, 0], [0, 1], [1, 1], [1, 0]], np.uint8), (10, 1))
    split = Split(images=[photo(number) for number in range(40)], labels=labels)
    checkup = examine(Dataset(classes=("a", "b"), splits={"train": split}, multi_label=True), "toy", seed=0)
    assert finding(checkup, "cannot-train") is None
    assert set(checkup.images) == {"train", "val", "test"}
    assert sum(checkup.images.values()) == 40


def test_sizes_and_shapes() -> None:
    images = [photo(number, 240) for number in range(20)]
    images[3] = photo(30)[:20, :30]
    images[5] = np.tile(photo(31), (1, 6, 1))
    images[6] = np.full((240, 240, 3), 17, np.uint8)
    checkup = check(images)
    assert places(finding(checkup, "tiny-image")) == [[("train", 3)]]
    assert places(finding(checkup, "elongated")) == [[("train", 5)]]
    assert places(finding(checkup, "blank")) == [[("train", 6)]]
    assert places(finding(checkup, "small-image"))[0] == [("train", 5)]
    assert places(finding(checkup, "not-compared")) == [[("train", 3)], [("train", 6)]]
    severities = {found.kind: found.severity for found in checkup.findings}
    assert severities["tiny-image"] == severities["elongated"] == "warning"
    assert severities["small-image"] == "remark"


def test_a_very_large_image() -> None:
    images = [photo(number) for number in range(20)]
    images[3] = np.broadcast_to(np.uint8(7), (5001, 5000, 3))
    assert places(finding(check(images), "large-image")) == [[("train", 3)]]


def test_small_missing_and_rare_classes() -> None:
    images = [photo(number) for number in range(60)]
    labels = np.array([0] * 57 + [1] * 3)
    test = Split(images=[photo(90), photo(91)], labels=np.array([0, 0]))
    checkup = check(images, labels, test=test)
    assert [case.facts for case in finding(checkup, "missing-class").cases] == [  # type: ignore[union-attr]
        {"class": "b", "split": "test"}
    ]
    assert [case.facts for case in finding(checkup, "small-class").cases] == [  # type: ignore[union-attr]
        {"class": "b", "training_images": 3}
    ]
    assert finding(checkup, "imbalance").cases[0].facts["ratio"] == 19  # type: ignore[union-attr]


def test_a_suffix_that_names_another_format(tmp_path: Path) -> None:
    files = []
    for number in range(20):
        file = tmp_path / f"{number}.{'png' if number % 5 else 'jpeg'}"
        Image.fromarray(photo(number)).save(file, "PNG" if number not in (0, 10, 3) else "JPEG")
        files.append(file)
    found = finding(check(files), "wrong-suffix")
    assert places(found) == [[("train", 3)], [("train", 5)], [("train", 15)]]
    assert found is not None
    assert [case.facts["format"] for case in found.cases] == ["JPEG", "PNG", "PNG"]


def test_damage_that_the_decoder_takes_in_silence(tmp_path: Path) -> None:
    files = []
    for number in range(20):
        files.append(tmp_path / f"{number}.jpg")
        Image.fromarray(photo(number)).save(files[-1], quality=90)
    data = bytearray(files[4].read_bytes())
    data[-900:-880] = bytes(20)
    files[4].write_bytes(data)
    checkup = check(files)
    assert finding(checkup, "unreadable") is None
    assert places(finding(checkup, "damaged")) == [[("train", 4)]]


def test_a_search_that_was_cut_short_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo.data.checkup import alike

    images = [photo(number) for number in range(20)]
    assert finding(check(images), "searched-partly") is None
    monkeypatch.setattr(alike, "MOST_COMPARED_WITH_ALL", 3)
    found = finding(check(images), "searched-partly")
    assert found is not None
    assert (found.severity, found.extent) == ("remark", "1")


@pytest.mark.parametrize(
    ("format_", "options"),
    [
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("GIF", {}),
        ("WEBP", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
def test_truncated_files_of_every_format_are_told_apart(format_: str, options: dict[str, Any]) -> None:
    file = io.BytesIO()
    Image.fromarray(photo(3)).save(file, format_, **options)
    data = file.getvalue()
    looks = look_at([data, *(data[: len(data) * part // 10] for part in range(1, 10))])
    assert [look.reason for look in looks] == [""] + ["truncated"] * 9
    assert looks[0].format == format_


def test_an_image_of_too_many_pixels(tmp_path: Path) -> None:
    file = tmp_path / "0.png"
    Image.new("1", (20_000, 20_000)).save(file)
    found = finding(check([file, *(photo(number) for number in range(20))]), "unreadable")
    assert found is not None
    assert found.cases[0].facts == {"reason": "too many pixels"}


class Failing(list[Any]):
    """A plugin's own sequence that raises for one image."""

    def __getitem__(self, index: Any) -> Any:
        if index == 3:
            raise RuntimeError("the archive is closed")
        return super().__getitem__(index)


def test_what_a_plugin_gets_wrong_is_a_finding() -> None:
    images = [photo(number) for number in range(20)]
    images[5] = images[5].astype(np.float32)
    images[6] = np.zeros((0, 10, 3), np.uint8)
    found = finding(check(Failing(images)), "unreadable")
    assert found is not None
    assert places(found) == [[("train", None)]] * 3
    assert [case.pictures[0].source_index for case in found.cases] == [3, 5, 6]
    assert [words in case.detail for words, case in zip(("closed", "float32", "empty"), found.cases, strict=True)]
    assert "the archive is closed" in found.cases[0].detail


def test_ctrl_c_does_not_wait_for_the_rest() -> None:
    looked: list[int] = []

    class Noted(list[Any]):
        def __getitem__(self, index: Any) -> Any:
            looked.append(index)
            return super().__getitem__(index)

    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        look_at(Noted([photo(0)] * 2000), stop)
    assert len(looked) < 1000


def test_names_that_are_no_text(cli: Cli, tmp_path: Path) -> None:
    folder = make_pictures(tmp_path / "photos")
    strange = os.fsencode(folder / "class0") + b"/\xff<b>.jpg"
    shutil.copy(os.fsencode(folder / "class0" / "000.jpg"), strange)
    answer = cli("data", "check", folder, "--json")
    assert answer.code in (0, 3), answer.stderr
    assert "\\udcff<b>.jpg" in answer.stdout.replace("\\\\", "\\")
    page = (tmp_path / "check.html").read_text()
    assert "&lt;b&gt;.jpg" in page
    assert "<b>.jpg" in cli("data", "check", folder).stdout
