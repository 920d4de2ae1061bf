"""C++ and Node read a bundle: the golden answers again, and those of the device's own runtime to the same pictures."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from zoo.deploy.bundle.make import digests
from zoo.runtime.model import Model
from zoo.runtime.sums import SUMS, read_sums, sums_text

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Ask = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.slow
PRECISIONS = ("fp32", "int8-weights")
PICTURES = 20
CLOSE = 2e-4
"""Of probabilities that are printed in hundredths of a percent."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """JPEG files in the eight orientations and three subsamplings, PNG files with holes, grey or with a palette."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(5)
    files = []
    for number in range(PICTURES):
        small = Image.fromarray(rng.integers(0, 256, (7, 9, 3), np.uint8))
        picture = small.resize((61 + 17 * number, 401 - 19 * number), Image.Resampling.BICUBIC)
        files.append(folder / f"{number}.{'png' if number % 3 == 2 else 'jpg'}")
        if number % 3 == 2:
            holes = Image.fromarray(rng.integers(0, 256, (5, 5), np.uint8)).resize(picture.size)
            picture = [picture, picture.convert("L"), picture.quantize(40)][number // 3 % 3]
            if number % 2 and picture.mode != "P":
                picture.putalpha(holes)
        exif = Image.Exif()
        exif[0x112] = number % 8 + 1
        options: dict[str, Any] = {} if number % 3 == 2 else {"subsampling": number % 3}
        picture.save(files[-1], exif=exif, **options)
    return files


def read(line: str) -> tuple[list[str], list[float]]:
    found = re.findall(r"(\S+) ([\d.]+) %", line.partition(": ")[2])
    return [name for name, _ in found], [float(percent) / 100 for _, percent in found]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_it_answers_as_the_runtime_does(
    ask: Ask, bundles: dict[str, Path], pictures: list[Path], precision: str
) -> None:
    folder = bundles[precision]
    done = ask(folder, "--selftest")
    assert done.returncode == 0, done.stderr
    assert re.match(r"the same answers as in the proof: (\d+) of \1 golden images keep their class", done.stdout)
    done = ask(folder, *pictures)
    assert done.returncode == 0, done.stderr
    for line, answer in zip(done.stdout.splitlines(), Model(folder).predict(pictures), strict=True):
        names, probabilities = read(line)
        assert names == [name for name, _ in answer.top], line
        assert np.allclose(probabilities, [p for _, p in answer.top], atol=CLOSE), line


def changed_copy(bundle: Path, folder: Path, name: str, content: bytes, *, honest: bool) -> Path:
    """Copy a bundle with another file in it; `honest` writes the checksum of what is there."""
    copy = folder / "copy"
    shutil.copytree(bundle, copy)
    (copy / name).write_bytes(content)
    if honest:
        (copy / SUMS).write_text(sums_text(read_sums(copy) | digests({name: content})))
    return copy


def test_other_answers_than_the_proofs_are_told_by_the_exit_code(
    ask: Ask, bundles: dict[str, Path], tmp_path: Path
) -> None:
    golden = bundles["fp32"] / "golden.npz"
    with np.load(golden) as arrays:
        values = {name: arrays[name] for name in arrays}
    values["artifact"] = values["artifact"][::-1]
    np.savez(tmp_path / "other.npz", **values)
    content = (tmp_path / "other.npz").read_bytes()
    done = ask(changed_copy(bundles["fp32"], tmp_path, "golden.npz", content, honest=True), "--selftest")
    assert done.returncode == 3
    assert done.stdout.startswith("NOT the answers of the proof: ")


@pytest.mark.parametrize("name", ["model.onnx", "artifact.json"])
def test_a_changed_bit_is_told_in_a_line(ask: Ask, bundles: dict[str, Path], tmp_path: Path, name: str) -> None:
    content = bytearray((bundles["fp32"] / name).read_bytes())
    content[len(content) // 2] ^= 1
    done = ask(changed_copy(bundles["fp32"], tmp_path, name, bytes(content), honest=False), "--selftest")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"{name} is not what the bundle was made with" in line


def test_a_hostile_picture_gets_a_line_and_the_others_their_answers(
    ask: Ask, bundles: dict[str, Path], pictures: list[Path], tmp_path: Path
) -> None:
    jpeg, png = pictures[0].read_bytes(), pictures[2].read_bytes()
    hostile = {
        "half.jpg": jpeg[: len(jpeg) // 2],
        "half.png": png[: len(png) // 2],
        "text.jpg": b"no picture",
        "no.png": b"",
    }
    for name, content in hostile.items():
        (tmp_path / name).write_bytes(content)
    Image.new("1", (9000, 9000)).save(tmp_path / "huge.png")
    files = [*(tmp_path / name for name in hostile), tmp_path / "huge.png"]
    done = ask(bundles["fp32"], *files, pictures[0])
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 1
    for file, line in zip(files, done.stderr.splitlines(), strict=True):
        assert line.startswith(str(file))


def test_no_picture_is_wrong_usage(ask: Ask, bundles: dict[str, Path]) -> None:
    done = ask(bundles["fp32"])
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")
