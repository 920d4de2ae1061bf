"""The ONNX exporter: the contract's graph, in a file that tells nothing about where it was made."""

from __future__ import annotations

import getpass
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from zoo.errors import ExportUnsupported, OptionInvalid
from zoo.plugin import Exporter, Target
from zoo_exporters.onnx_exporter import OnnxExporter

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
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", Target().opset)]


@BACKBONES
def test_int8_leaves_preprocessing_and_probabilities_in_float(backbone: torch.nn.Module, files: Files) -> None:
    graph = onnx.load_from_string(files(EXPORTER, make_request(backbone, "int8"))).graph
    makers = {output: node for node in graph.node for output in node.output}
    tensor, path = "image", []
    while (node := next(n for n in nodes_after(graph, tensor) if n.op_type != "Shape")).op_type != "QuantizeLinear":
        path.append(node.op_type)
        tensor = node.output[0]
        others = [makers[name].op_type for name in node.input if name in makers]
        assert "DequantizeLinear" not in others
    assert sorted(path) == ["Cast", "Div", "Sub", "Transpose"]
    (after,) = nodes_after(graph, node.output[0])
    assert [n.op_type for n in (after, *nodes_after(graph, after.output[0]))] == ["DequantizeLinear", "Conv"]
    assert makers["probabilities"].op_type == "Softmax"
    assert makers[makers["probabilities"].input[0]].op_type == "Gemm"


def test_int8_weights_have_a_scale_for_each_channel(resnet: torch.nn.Module, files: Files) -> None:
    graph = onnx.load_from_string(files(EXPORTER, make_request(resnet, "int8"))).graph
    makers = {output: node for node in graph.node for output in node.output}
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert convolutions
    for node in convolutions:
        weight, scale, _ = (numpy_helper.to_array(tensors[name]) for name in makers[node.input[1]].input)
        assert weight.dtype == np.int8
        assert scale.shape == weight.shape[:1]
        activation = makers[makers[node.input[0]].input[0]]
        assert numpy_helper.to_array(tensors[activation.input[2]]).dtype == np.uint8


def test_int8_leaves_products_of_activations_in_float(vit: torch.nn.Module, files: Files) -> None:
    graph = onnx.load_from_string(files(EXPORTER, make_request(vit, "int8"))).graph
    makers = {output: node.op_type for node in graph.node for output in node.output}
    products = [[makers.get(name) for name in node.input] for node in graph.node if node.op_type == "MatMul"]
    in_int8 = [inputs == ["DequantizeLinear"] * 2 for inputs in products]
    assert (in_int8.count(True), in_int8.count(False)) == (8, 4)
    assert not any("DequantizeLinear" in inputs for inputs, int8 in zip(products, in_int8, strict=True) if not int8)


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
    assert EXPORTER.export_options() == {"calibration_method": "minmax"}
    with pytest.raises(OptionInvalid, match="minmax, percentile, entropy"):
        EXPORTER.export(replace(request, options={"calibration_method": "best"}), tmp_path / "model.onnx")
