"""The TorchScript exporter: one traced file, at fp32 and int8, that answers as the model does."""

from __future__ import annotations

import getpass
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from zoo.errors import ExportUnsupported
from zoo.exporting.compare import fidelity
from zoo.plugin import Target
from zoo_exporters.torchscript.exporter import ENGINE_FILE, TorchScriptExporter
from zoo_exporters.torchscript.predictor import best_engine

from .conftest import (
    BACKBONES,
    CLASSES,
    PRECISIONS,
    BranchesOnPixels,
    eager,
    make_backbone,
    make_request,
    pictures,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo.plugin import Exporter, ExportRequest

    Files = Callable[[Exporter, ExportRequest], bytes]

EXPORTER = TorchScriptExporter()


def write(folder: Path, data: bytes) -> Path:
    file = folder / "model.pt"
    file.write_bytes(data)
    return file


def test_int8_file_holds_int8_weights(resnet: torch.nn.Module, files: Files) -> None:
    fp32, int8 = (files(EXPORTER, make_request(resnet, precision)) for precision in ("fp32", "int8"))
    assert len(int8) < 0.5 * len(fp32)


def test_norms_that_are_functional_calls_are_folded_before_quantization() -> None:
    from zoo_exporters.torchscript.int8 import traced

    backbone = make_backbone("mobilenetv3_small_050")
    simple = traced(backbone)
    assert "batch_norm" not in simple.code
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.allclose(simple(images), backbone(images), atol=1e-4)


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


@pytest.mark.parametrize(
    ("precision", "way_out"), [("fp32", "--onnx"), ("int8", "--onnx --int8 or --torchscript --fp32")]
)
def test_model_that_depends_on_pixels_is_refused_in_one_line(precision: str, way_out: str, tmp_path: Path) -> None:
    with pytest.raises(ExportUnsupported, match=f"torchscript {precision}.*{way_out}") as caught:
        EXPORTER.export(make_request(BranchesOnPixels().eval(), precision), tmp_path / "model.pt")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


class LoopsOverPixels(torch.nn.Module):
    """A backbone that a trace follows and FX does not: its Python code counts the rows of a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = torch.nn.Linear(3, 256)
        self.head = torch.nn.Linear(256, len(CLASSES))
        self.kept = torch.nn.Linear(256, 256)  # never called: only its weight is read, as BEiT does with its qkv

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        colours = x.mean((2, 3))
        for _ in range(x.shape[2] // 32):
            colours = 2 * colours
        wide = torch.nn.functional.linear(self.wide(colours), self.kept.weight).relu()
        logits: torch.Tensor = self.head(wide)
        return logits


def test_a_model_that_fx_cannot_trace_gets_int8_linear_layers_and_says_so(tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = LoopsOverPixels().eval()
    backbone.wide = torch.nn.Sequential(torch.nn.Linear(3, 256), torch.nn.Linear(256, 256))  # type: ignore[assignment]
    request = make_request(backbone.eval(), "int8")
    made = EXPORTER.export(request, tmp_path / "model.pt")
    assert any(note.startswith("FX cannot trace this LoopsOverPixels (") for note in made.notes)
    assert any("Linear layers are int8" in note for note in made.notes)
    images = pictures(40, seed=1)
    assert fidelity(eager(request, images), EXPORTER.open(tmp_path / "model.pt")(images)).cosine_p10 > 0.99
    with pytest.raises(ExportUnsupported, match="use --onnx --int8"):
        EXPORTER.export(make_request(backbone, "int8", fallback=False), tmp_path / "other.pt")


def test_dynamic_is_for_linear_layers(
    vit: torch.nn.Module, resnet: torch.nn.Module, files: Files, tmp_path: Path
) -> None:
    fp32, request = make_request(vit, "fp32"), make_request(vit, "dynamic")
    assert len(files(EXPORTER, request)) < 0.5 * len(files(EXPORTER, fp32))
    images = pictures(40, seed=1)
    answers = EXPORTER.open(write(tmp_path, files(EXPORTER, request)))(images)
    assert fidelity(eager(request, images), answers).cosine_p10 > 0.99
    with pytest.raises(ExportUnsupported, match=r"Linear layers, which hold \d+% of this model's weights"):
        EXPORTER.export(make_request(resnet, "dynamic"), tmp_path / "none.pt")


def test_engine_is_the_target_s() -> None:
    assert best_engine(Target(arch="aarch64")) == "qnnpack"
    assert best_engine(Target(arch="x86_64")) == "onednn"
    assert best_engine(Target(arch="x86_64", reduce_range=True)) == "x86"


def test_a_file_for_arm_names_its_engine(resnet: torch.nn.Module, tmp_path: Path) -> None:
    request = make_request(resnet, "int8", target=Target(arch="aarch64"))
    made = EXPORTER.export(request, tmp_path / "model.pt")
    assert "qnnpack" in made.notes[0]
    with zipfile.ZipFile(tmp_path / "model.pt") as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(ENGINE_FILE))
        assert archive.read(name) == b"qnnpack"
    images = pictures(20, seed=1)
    assert fidelity(eager(request, images), EXPORTER.open(tmp_path / "model.pt")(images)).cosine > 0.9
