"""The ONNX exporter: the contract's graph, in a file that tells nothing about where it was made."""

from __future__ import annotations

import getpass
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from zoo.errors import ExportUnsupported, OptionInvalid
from zoo.plugin import Exporter, Target
from zoo_exporters.onnx.exporter import OnnxExporter

from .conftest import BACKBONES, CLASSES, PRECISIONS, SIDE, BranchesOnPixels, eager, make_request, pictures

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from zoo.plugin import ExportRequest

    Files = Callable[[Exporter, ExportRequest], bytes]

EXPORTER = OnnxExporter()


def write(folder: Path, data: bytes) -> Path:
    file = folder / "model.onnx"
    file.write_bytes(data)
    return file


def nodes_after(graph: onnx.GraphProto, tensor: str) -> list[onnx.NodeProto]:
    return [node for node in graph.node if tensor in node.input]


@BACKBONES
@PRECISIONS
def test_graph_takes_pixels_and_gives_probabilities(backbone: torch.nn.Module, precision: str, files: Files) -> None:
    model = onnx.load_from_string(files(EXPORTER, make_request(backbone, precision)))
    onnx.checker.check_model(model, full_check=True)
    (image,), (probabilities,) = model.graph.input, model.graph.output
    assert (image.name, probabilities.name) == ("image", "probabilities")
    sides = [image.type.tensor_type, probabilities.type.tensor_type]
    assert [side.elem_type for side in sides] == [TensorProto.UINT8, TensorProto.FLOAT]
    shapes = [[dim.dim_param or dim.dim_value for dim in side.shape.dim] for side in sides]
    assert shapes == [["batch", SIDE, SIDE, 3], ["batch", len(CLASSES)]]


@BACKBONES
@PRECISIONS
def test_file_stays_below_the_target_s_versions(backbone: torch.nn.Module, precision: str, files: Files) -> None:
    model = onnx.load_from_string(files(EXPORTER, make_request(backbone, precision)))
    assert model.ir_version <= Target().ir_version
    opsets = {opset.domain: opset.version for opset in model.opset_import}
    assert opsets.pop("") <= Target().opset
    assert opsets in ({}, {"com.microsoft": 1})


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_calibration_method_changes_the_ranges(
    method: str, resnet: torch.nn.Module, files: Files, tmp_path: Path
) -> None:
    request = make_request(resnet, "int8", options={"calibration_method": method})
    EXPORTER.export(request, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_bytes() != files(EXPORTER, make_request(resnet, "int8"))
    images = pictures(50, seed=1)
    answers = EXPORTER.open(tmp_path / "model.onnx")(images)
    assert (answers.argmax(1) == eager(request, images).argmax(1)).mean() >= 0.6


def test_multi_label_ends_in_a_sigmoid(resnet: torch.nn.Module, tmp_path: Path) -> None:
    request = make_request(resnet, "int8", multi_label=True)
    EXPORTER.export(request, tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx").graph
    maker = next(node for node in graph.node if "probabilities" in node.output)
    assert maker.op_type == "Sigmoid"
    images = pictures(5, seed=1)
    assert np.abs(EXPORTER.open(tmp_path / "model.onnx")(images) - eager(request, images)).mean() < 0.05


@BACKBONES
@PRECISIONS
def test_file_tells_nothing_about_where_it_was_made(backbone: torch.nn.Module, precision: str, files: Files) -> None:
    data = files(EXPORTER, make_request(backbone, precision))
    here = str(Path(__file__).resolve().parents[2]).encode()
    user = getpass.getuser().encode()
    for trace in (here, b"site-packages", b"/root", b"/home", b"/" + user, b"stack_trace", b"namespace", b".py"):
        assert trace not in data
    names = [node.name for node in onnx.load_from_string(data).graph.node]
    assert all(names)
    assert len(set(names)) == len(names)


@PRECISIONS
def test_model_that_depends_on_pixels_is_refused_in_one_line(precision: str, tmp_path: Path) -> None:
    with pytest.raises(ExportUnsupported, match=f"onnx {precision} failed: .*; ") as caught:
        EXPORTER.export(make_request(BranchesOnPixels().eval(), precision), tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_model_whose_classes_are_not_the_request_s_is_refused(resnet: torch.nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ExportUnsupported, match="output came out as"):
        EXPORTER.export(make_request(resnet, "fp32", classes=("one", "two")), tmp_path / "model.onnx")


def test_unknown_calibration_method_is_refused(resnet: torch.nn.Module, tmp_path: Path) -> None:
    request = make_request(resnet, "int8")
    assert EXPORTER.export_options() == {"search": "quick", "calibration_method": "auto"}
    with pytest.raises(OptionInvalid, match="minmax, percentile, mse, entropy"):
        EXPORTER.export(replace(request, options={"calibration_method": "best"}), tmp_path / "model.onnx")
