"""fp16, dynamic, int8 and int4 weights in ONNX: what is in fewer bits, what stays float, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from zoo.errors import ExportUnsupported
from zoo.exporting.compare import fidelity
from zoo.runtime.session import OnnxPredictor, asked_options
from zoo_exporters.onnx.exporter import OnnxExporter
from zoo_exporters.onnx.fp16 import half
from zoo_exporters.onnx.weights import SESSION, in_steps, quantize_weights

from .conftest import BACKBONES, eager, make_request, pictures

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch

    from zoo.plugin import Exporter, ExportRequest

    Files = Callable[[Exporter, ExportRequest], bytes]

EXPORTER = OnnxExporter()


def close_to_eager(file: Path, request: ExportRequest) -> float:
    images = pictures(50, seed=1)
    return fidelity(eager(request, images), OnnxPredictor(file)(images)).cosine_p10


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@BACKBONES
def test_int8_weights_are_a_quarter_and_answer_as_the_model(
    backbone: torch.nn.Module, files: Files, tmp_path: Path
) -> None:
    request = make_request(backbone, "int8-weights")
    file = tmp_path / "model.onnx"
    file.write_bytes(files(EXPORTER, request))
    assert close_to_eager(file, request) > 0.99
    assert asked_options(file) == SESSION
    model = onnx.load(file)
    weights = sum(values.nbytes for values in constants(model).values())
    before = sum(
        values.nbytes
        for values in constants(onnx.load_from_string(files(EXPORTER, make_request(backbone, "fp32")))).values()
    )
    assert before > 3.3 * weights
    assert not {node.op_type for node in model.graph.node} & {"QuantizeLinear", "MatMulInteger", "ConvInteger"}


def test_what_the_file_asks_for_reaches_the_manifest(resnet: torch.nn.Module, tmp_path: Path) -> None:
    made = EXPORTER.export(make_request(resnet, "int8-weights"), tmp_path / "model.onnx")
    assert made.session == SESSION
    assert any("session.disable_quant_qdq" in note for note in made.notes)


@pytest.mark.parametrize(
    ("op", "shape", "attributes", "axis"),
    [
        ("Conv", [24, 8, 3, 3], {}, 0),
        ("Conv", [96, 1, 3, 3], {"group": 96}, 0),
        ("ConvTranspose", [8, 24, 3, 3], {}, 1),
        ("Gemm", [32, 24], {}, 1),
        ("Gemm", [24, 32], {"transB": 1}, 0),
        ("MatMul", [32, 24], {}, 1),
        ("MatMul", [2, 32, 24], {}, 2),
    ],
)
def test_each_output_channel_has_a_scale(op: str, shape: list[int], attributes: dict[str, int], axis: int) -> None:
    graph = helper.make_graph(
        [helper.make_node(op, ["x", "w"], ["y"], **cast("Any", attributes))],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.random.default_rng(0).normal(size=shape).astype(np.float32), "w")],
    )
    assert quantize_weights(graph) == 4 * np.prod(shape)
    (node, product) = graph.node
    assert (node.attribute[0].i, list(node.output), list(product.input)) == (axis, ["w"], ["x", "w"])
    scales = next(tensor for tensor in graph.initializer if tensor.name == node.input[1])
    assert list(scales.dims) == [shape[axis]]


def test_a_weight_of_two_products_is_stored_once_and_a_small_one_is_left() -> None:
    weight = numpy_helper.from_array(np.ones((32, 32), np.float32), "w")
    small = numpy_helper.from_array(np.ones((4, 4), np.float32), "s")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("MatMul", ["w", "y"], ["z"])]
    nodes.append(helper.make_node("MatMul", ["z", "s"], ["o"]))
    graph = helper.make_graph(nodes, "g", [], [], [weight, small])
    assert quantize_weights(graph) == 4096
    assert [node.op_type for node in graph.node].count("DequantizeLinear") == 1
    assert {tensor.name: tensor.data_type for tensor in graph.initializer}["s"] == TensorProto.FLOAT


def test_steps_are_symmetric_and_a_channel_of_zeros_stays_zero() -> None:
    values = np.array([[-2.0, 1.0, 0.5], [0.0, 0.0, 0.0]], np.float32)
    integers, scales = in_steps(values, 0)
    assert (integers.dtype.name, scales.dtype.name) == ("int8", "float32")
    assert integers.tolist() == [[-127, 64, 32], [0, 0, 0]]
    assert np.abs(integers * scales[:, None] - values).max() <= scales[0] / 2


@BACKBONES
def test_fp16_is_a_half_and_ends_in_float(backbone: torch.nn.Module, files: Files, tmp_path: Path) -> None:
    request = make_request(backbone, "fp16")
    file = tmp_path / "model.onnx"
    file.write_bytes(files(EXPORTER, request))
    assert close_to_eager(file, request) > 0.9999
    model = onnx.load(file)
    large = [values for values in constants(model).values() if values.size > 16 and values.dtype != np.int64]
    assert {values.dtype for values in large} == {np.dtype(np.float16)}
    makers = {name: node for node in model.graph.node for name in node.output}
    pixels = next(node for node in model.graph.node if "image" in node.input or node.op_type == "Sub")
    assert pixels.op_type in ("Cast", "Transpose")
    softmax = makers["probabilities"]
    assert (softmax.op_type, makers[softmax.input[0]].op_type) == ("Softmax", "Cast")


def overflowing() -> onnx.ModelProto:
    """Pixels times 1000 and back: beyond fp16 in between."""
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 32, 32, 3])
    constants = {"pick": np.full((3, 4), 1000, np.float32), "back": np.full(4, 1e-5, np.float32)}
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["float", "pick"], ["huge"], name="huge"),
        helper.make_node("Mul", ["huge", "back"], ["small"], name="small"),
        helper.make_node("Relu", ["small"], ["kept"], name="kept"),
        helper.make_node("ReduceMean", ["kept", "axes"], ["logits"], keepdims=0),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    tensors = [numpy_helper.from_array(values, name) for name, values in constants.items()]
    tensors.append(numpy_helper.from_array(np.array([1, 2]), "axes"))
    output = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 4])
    graph = helper.make_graph(nodes, "g", [image], [output], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_fp16_leaves_in_float_what_would_overflow(resnet: torch.nn.Module, tmp_path: Path) -> None:
    onnx.save(overflowing(), tmp_path / "fp32.onnx")
    converted, made = half(overflowing(), make_request(resnet, "fp16"))
    assert set(made.layers) == {"huge", "small"}
    assert "2 nodes stay in fp32" in made.notes[0]
    onnx.save(converted, tmp_path / "fp16.onnx")
    answers = [OnnxPredictor(tmp_path / f"{name}.onnx")(pictures(4)) for name in ("fp32", "fp16")]
    assert np.isfinite(answers[1]).all()
    assert np.abs(answers[0] - answers[1]).max() < 1e-2


def test_dynamic_products_are_int8_and_signed(vit: torch.nn.Module, files: Files, tmp_path: Path) -> None:
    request = make_request(vit, "dynamic")
    file = tmp_path / "model.onnx"
    file.write_bytes(files(EXPORTER, request))
    assert close_to_eager(file, request) > 0.99
    model = onnx.load(file)
    products = [node for node in model.graph.node if node.op_type == "MatMulInteger"]
    assert len(products) == 9
    weights = constants(model)
    assert {weights[node.input[1]].dtype for node in products} == {np.dtype(np.int8)}


def test_int4_weights_are_smaller_than_int8_weights(vit: torch.nn.Module, files: Files, tmp_path: Path) -> None:
    request = make_request(vit, "int4-weights")
    file = tmp_path / "model.onnx"
    file.write_bytes(files(EXPORTER, request))
    assert len(files(EXPORTER, request)) < 0.9 * len(files(EXPORTER, make_request(vit, "int8-weights")))
    assert close_to_eager(file, request) > 0.9
    assert "MatMulNBits" in {node.op_type for node in onnx.load(file).graph.node}


@pytest.mark.parametrize("precision", ["dynamic", "int4-weights"])
def test_what_is_for_matrix_products_is_refused_without_them(
    precision: str, resnet: torch.nn.Module, tmp_path: Path
) -> None:
    with pytest.raises(ExportUnsupported, match=r"matrix products, which hold \d+% .*use --int8") as caught:
        EXPORTER.export(make_request(resnet, precision), tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
