"""The TorchScript exporter: one traced file, at fp32 and int8, that answers as the model does."""

from __future__ import annotations

import getpass
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from zoo.errors import ArtifactInvalid, ExportUnsupported
from zoo.plugin import Exporter
from zoo_exporters.torchscript_exporter import ENGINE_FILE, TorchScriptExporter
from zoo_exporters.torchscript_predictor import best_engine

from .conftest import (
    BACKBONES,
    CLASSES,
    PRECISIONS,
    BranchesOnPixels,
    Footprint,
    eager,
    make_backbone,
    make_request,
    pictures,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo.plugin import ExportRequest

    Files = Callable[[Exporter, ExportRequest], bytes]

EXPORTER = TorchScriptExporter()


def write(folder: Path, data: bytes) -> Path:
    file = folder / "model.pt"
    file.write_bytes(data)
    return file


def test_is_an_exporter() -> None:
    assert isinstance(EXPORTER, Exporter)
    assert (EXPORTER.suffix, EXPORTER.precisions) == (".pt", ("fp32", "int8"))


@BACKBONES
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_fp32_agrees_with_eager_at_any_batch(
    backbone: torch.nn.Module, batch: int, files: Files, tmp_path: Path
) -> None:
    request = make_request(backbone, "fp32")
    predict = EXPORTER.open(write(tmp_path, files(EXPORTER, request)), threads=1)
    images = pictures(batch, seed=1)
    answers = predict(images)
    assert answers.shape == (batch, len(CLASSES))
    assert answers.dtype == np.float32
    assert np.abs(answers - eager(request, images)).max() < 1e-5


@BACKBONES
def test_int8_mostly_agrees_with_eager_and_wholly_with_itself(
    backbone: torch.nn.Module, files: Files, tmp_path: Path
) -> None:
    request = make_request(backbone, "int8")
    predict = EXPORTER.open(write(tmp_path, files(EXPORTER, request)), threads=1)
    images = pictures(200, seed=1)
    answers = predict(images)
    assert (answers.argmax(1) == eager(request, images).argmax(1)).mean() >= 0.9
    assert np.abs(np.concatenate([predict(images[:1]), predict(images[1:5])]) - answers[:5]).max() < 1e-5


def test_int8_file_holds_int8_weights(resnet: torch.nn.Module, files: Files) -> None:
    fp32, int8 = (files(EXPORTER, make_request(resnet, precision)) for precision in ("fp32", "int8"))
    assert len(int8) < 0.5 * len(fp32)


def test_norms_that_are_functional_calls_are_folded_before_quantization() -> None:
    from zoo_exporters.torchscript_int8 import traced

    backbone = make_backbone("mobilenetv3_small_050")
    simple = traced(backbone)
    assert "batch_norm" not in simple.code
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.allclose(simple(images), backbone(images), atol=1e-4)


def test_read_only_and_strided_images_are_taken(resnet: torch.nn.Module, files: Files, tmp_path: Path) -> None:
    predict = EXPORTER.open(write(tmp_path, files(EXPORTER, make_request(resnet, "fp32"))))
    images = pictures(4, seed=1)
    expected = predict(images)
    images.flags.writeable = False
    assert np.array_equal(predict(images), expected)
    assert np.abs(predict(images[::-1]) - expected[::-1]).max() < 1e-6


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_process_keeps_its_threads_and_its_engine(
    precision: str, resnet: torch.nn.Module, files: Files, tmp_path: Path
) -> None:
    file = write(tmp_path, files(EXPORTER, make_request(resnet, precision)))
    threads, engine = torch.get_num_threads(), torch.backends.quantized.engine
    other = next(e for e in torch.backends.quantized.supported_engines if e not in ("none", best_engine()))
    try:
        torch.set_num_threads(2)
        torch.backends.quantized.engine = other
        EXPORTER.open(file, threads=1)(pictures(1))
        assert (torch.get_num_threads(), torch.backends.quantized.engine) == (2, other)
    finally:
        torch.set_num_threads(threads)
        torch.backends.quantized.engine = engine


def test_file_names_its_engine_and_falls_back_to_this_machine_s(
    resnet: torch.nn.Module, files: Files, tmp_path: Path
) -> None:
    file = write(tmp_path, files(EXPORTER, make_request(resnet, "int8")))
    foreign = tmp_path / "foreign.pt"
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(foreign, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            if entry.filename.endswith(ENGINE_FILE):
                assert data.decode() == best_engine()
                data = b"abacus"
            new.writestr(entry, data)
    images = pictures(3, seed=1)
    assert np.array_equal(EXPORTER.open(foreign)(images), EXPORTER.open(file)(images))


@BACKBONES
@PRECISIONS
def test_file_tells_nothing_about_where_it_was_made(
    backbone: torch.nn.Module, precision: str, files: Files, tmp_path: Path
) -> None:
    file = write(tmp_path, files(EXPORTER, make_request(backbone, precision)))
    here = str(Path(__file__).resolve().parents[2]).encode()
    user = getpass.getuser().encode()
    with zipfile.ZipFile(file) as archive:
        assert not [name for name in archive.namelist() if "debug" in name]
        parts = [file.read_bytes(), *(archive.read(name) for name in archive.namelist())]
    for trace in (here, b"site-packages", b"/root", b"/home", b"/" + user, b"stack_trace"):
        assert not any(trace in part for part in parts)


@BACKBONES
@PRECISIONS
def test_export_says_nothing_and_leaves_nothing_but_the_file(
    backbone: torch.nn.Module, precision: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    request = make_request(backbone, precision)
    before = Footprint.of(request.model)
    EXPORTER.export(request, tmp_path / "model.pt")
    EXPORTER.open(tmp_path / "model.pt")(pictures(2))
    assert capfd.readouterr() == ("", "")
    assert [file.name for file in tmp_path.iterdir()] == ["model.pt"]
    before.assert_same(Footprint.of(request.model))


@PRECISIONS
def test_a_file_opens_in_a_fresh_process_without_a_word(
    resnet: torch.nn.Module, precision: str, tmp_path: Path, files: Files
) -> None:
    (tmp_path / "model.pt").write_bytes(files(EXPORTER, make_request(resnet, precision)))
    code = "import numpy, pathlib; from zoo_exporters.torchscript_exporter import TorchScriptExporter as T;"
    code += "T().open(pathlib.Path('model.pt'))(numpy.zeros((1, 32, 32, 3), numpy.uint8))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("precision", "way_out"), [("fp32", "--onnx"), ("int8", "--onnx --int8 or --torchscript --fp32")]
)
def test_model_that_depends_on_pixels_is_refused_in_one_line(precision: str, way_out: str, tmp_path: Path) -> None:
    with pytest.raises(ExportUnsupported, match=f"torchscript {precision}.*{way_out}") as caught:
        EXPORTER.export(make_request(BranchesOnPixels().eval(), precision), tmp_path / "model.pt")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_calibration_without_images_is_refused(resnet: torch.nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ExportUnsupported, match="calibration images"):
        EXPORTER.export(make_request(resnet, "int8", calibration=lambda: iter(())), tmp_path / "model.pt")


@pytest.mark.parametrize("damage", ["empty", "garbage", "cut", "missing"])
def test_corrupt_file_is_refused_in_one_line(
    damage: str, resnet: torch.nn.Module, files: Files, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = files(EXPORTER, make_request(resnet, "fp32"))
    file = tmp_path / "model.pt"
    if damage != "missing":
        file.write_bytes({"empty": b"", "garbage": b"\xff<html>", "cut": whole[: len(whole) // 2]}[damage])
    with pytest.raises(ArtifactInvalid, match="torch cannot load it") as caught:
        EXPORTER.open(file)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
