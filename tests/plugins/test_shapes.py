"""The shapes dataset: the same bytes for everybody, whatever the count; a killed call leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zoo.errors import EnvironmentBroken, OptionInvalid
from zoo.testing import DatasetContract
from zoo_plugins import shapes as module
from zoo_plugins.shapes import CLASSES, OUTLINES, draw, shapes


class TestShapes(DatasetContract):
    name = "shapes"

    @pytest.fixture
    def options(self) -> dict[str, Any]:
        return {"count": 20, "width": 64, "height": 48}


def images(root: Path, **options: int) -> dict[tuple[int, str], bytes]:
    train = shapes(root, **options).splits["train"]
    files = [image for image in train.images if isinstance(image, Path)]
    return {(int(n), file.name): file.read_bytes() for file, n in zip(files, train.labels, strict=True)}


def test_ten_classes_are_all_there_in_order(tmp_path: Path) -> None:
    dataset = shapes(tmp_path, count=3, width=32, height=24)
    train = dataset.splits["train"]
    assert list(dataset.splits) == ["train"]
    assert dataset.classes == tuple(sorted(CLASSES))
    assert len(CLASSES) == 10
    assert train.labels.tolist() == [label for label in range(10) for _ in range(3)]
    assert [Path(str(image)).parent.name for image in train.images] == [CLASSES[label] for label in train.labels]
    assert dataset.license == "CC0-1.0"


def test_more_images_never_change_earlier_ones(tmp_path: Path) -> None:
    few, many = images(tmp_path, count=2, width=40, height=32), images(tmp_path, count=5, width=40, height=32)
    assert few.items() < many.items()
    assert len(set(many.values())) == len(many) == 50
    assert few == images(tmp_path / "elsewhere", count=2, width=40, height=32)


@pytest.mark.parametrize(("width", "height"), [(16, 16), (160, 120), (33, 127), (16, 1000), (1000, 16)])
def test_images_have_the_size_asked_for(tmp_path: Path, width: int, height: int) -> None:
    for file in shapes(tmp_path, count=1, width=width, height=height).splits["train"].images:
        assert isinstance(file, Path)
        with Image.open(file) as picture:
            assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (width, height))


def test_a_large_picture_is_as_large_a_file_as_a_photo(tmp_path: Path) -> None:
    sizes = [len(data) for data in images(tmp_path, count=1, width=1920, height=1080).values()]
    assert 200_000 < min(sizes) <= max(sizes) < 900_000


def test_quality_makes_files_larger(tmp_path: Path) -> None:
    low, high = (images(tmp_path, count=1, quality=quality) for quality in (30, 95))
    assert all(len(low[key]) < len(high[key]) for key in low)


def test_the_shape_stands_out_wherever_it_is() -> None:
    for label in range(10):
        for index in range(5):
            pixels = draw(label, index, (96, 96)).astype(float)
            # Something as large as the smallest shape is brighter in one channel than nearly all of the rest.
            strongest = np.sort(pixels.max(axis=2).ravel())
            assert strongest[int(0.97 * strongest.size)] - strongest[strongest.size // 4] > 40, (label, index)


def test_outlines_lie_in_their_circle() -> None:
    for name, outlines in zip(CLASSES, OUTLINES, strict=True):
        reach = max(float(np.hypot(*points.T).max()) for points in outlines)
        assert reach == pytest.approx(1), name


def test_a_second_call_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = images(tmp_path, count=1)
    monkeypatch.setattr(module, "_write", lambda *_: pytest.fail("it drew again"))
    assert images(tmp_path, count=1) == first
    assert [place.name for place in tmp_path.iterdir()] == ["160x120-quality90-count1"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"count": 0}, "count=0 is out of range; give 1 or more"),
        ({"count": -3}, "count=-3"),
        ({"width": 15}, "width=15 is out of range; give 16 to 4096"),
        ({"height": 4097}, "height=4097"),
        ({"quality": 0}, "quality=0 is out of range; give 1 to 100"),
        ({"quality": 101}, "quality=101"),
    ],
)
def test_options_out_of_range_are_refused_before_anything_is_drawn(
    tmp_path: Path, options: dict[str, int], reason: str
) -> None:
    with pytest.raises(OptionInvalid, match=reason):
        shapes(tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_a_failed_call_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill_up(path: Path, *rest: object) -> None:
        if path.stem == "00001":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_write_image", fill_up)
    with pytest.raises(EnvironmentBroken, match="No space left on device; free space"):
        shapes(tmp_path, count=2)
    assert not list(tmp_path.iterdir())


def test_a_process_that_was_faster_is_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = module._write_image

    def write_while_another_does(path: Path, *rest: Any) -> None:
        (tmp_path / "160x120-quality90-count1" / "arrow").mkdir(parents=True, exist_ok=True)
        write(path, *rest)

    monkeypatch.setattr(module, "_write_image", write_while_another_does)
    assert len(shapes(tmp_path, count=1).splits["train"]) == 10
    assert [place.name for place in tmp_path.iterdir()] == ["160x120-quality90-count1"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal here")
def test_a_killed_call_leaves_nothing_that_counts(tmp_path: Path) -> None:
    code = (
        f"from pathlib import Path; from zoo_plugins.shapes import shapes; shapes(Path({str(tmp_path)!r}), count=9999)"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        limit = time.monotonic() + 60
        while not any(tmp_path.rglob("*.jpg")) and time.monotonic() < limit:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    assert any(tmp_path.rglob("*.jpg"))
    assert not [place for place in tmp_path.iterdir() if not place.name.startswith(".")]
