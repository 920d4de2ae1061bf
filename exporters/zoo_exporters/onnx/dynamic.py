"""Matrix products in int8 whose activations are measured as they come; int4 weights for the same products."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import ExportUnsupported
from zoo.plugin import Made
from zoo_exporters.onnx.graph import name_nodes, tensor_bytes
from zoo_exporters.onnx.int8.pairs import bounded_steps
from zoo_exporters.onnx.weights import NOTE, SESSION, quantize_weights, weight_bytes, weights

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, TensorProto

    from zoo.plugin import ExportRequest

WORTH = 0.25
"""The least share of the weights in matrix products for which either precision is made."""
BITS = 4
BLOCK = 16
"""Weights that share a scale; vit_tiny's logits move by 14 % of their size, by 22 % with 32."""


def dynamic_int8(model: ModelProto, request: ExportRequest) -> tuple[ModelProto, Made]:
    """Return `model` with int8 matrix products whose activations get their ranges from each image.

    Raises:
        ExportUnsupported: it has next to no matrix products.
    """
    share = _check_worth(model, request.precision)
    bounded = request.target.activations == "uint8"
    given = {"reduce_range": request.target.reduce_range and not bounded, "bounded": bounded}
    quantized = dynamic(model, leave_out=frozenset(), **given)
    return quantized, Made(notes=(f"matrix products are int8, {share:.0%} of the weights; the rest is float",))


def dynamic(
    model: ModelProto, *, leave_out: frozenset[str], reduce_range: bool = False, bounded: bool = False
) -> ModelProto:
    """Return a copy of `model` in which MatMul and Gemm with constant weights compute in int8, dynamically.

    Args:
        model: In fp32; its nodes have names.
        leave_out: Nodes that stay in float.
        reduce_range: Whether weights get 7 bits: see `Target.reduce_range`.
        bounded: Whether weights are held so small that no sum of two neighbours saturates.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.onnx_model import ONNXModel

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    name_nodes(copied.graph)
    # It turns Gemm into MatMul, whose weights then have other shapes than are noted here.
    del copied.graph.value_info[:]
    ONNXModel(copied).replace_gemm_with_matmul()
    before = {tensor.name: tensor for tensor in copied.graph.initializer}
    with tempfile.TemporaryDirectory(prefix="zoo-dynamic-") as folder:
        result = Path(folder, "dynamic.onnx")
        quantize_dynamic(
            copied,
            result,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            reduce_range=reduce_range,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=sorted(leave_out),
            # onnx's shape inference stops at operators of onnxruntime's own.
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )
        quantized = onnx.load(result)
    if bounded:
        _bound(quantized.graph, before)
    return quantized


def _bound(graph: GraphProto, before: dict[str, TensorProto]) -> None:
    """Round the weights of dynamic products anew, with steps by which no sum of two neighbours saturates.

    Args:
        graph: Quantized.
        before: The weights in float32, by their names before.
    """
    from onnx import numpy_helper

    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "MatMulInteger" and node.input[1] in tensors:
            name = node.input[1].removesuffix("_quantized")
            weights = numpy_helper.to_array(before[name])
            if weights.ndim == 2:
                steps = bounded_steps(weights.T)
                rounded = np.round(weights / steps).astype(np.int8)
                tensors[node.input[1]].CopyFrom(numpy_helper.from_array(rounded, node.input[1]))
                tensors[f"{name}_scale"].CopyFrom(numpy_helper.from_array(steps, f"{name}_scale"))


def int4_weights(model: ModelProto, request: ExportRequest) -> tuple[ModelProto, Made]:
    """Return `model` with int4 weights in matrix products, in blocks, and int8 weights in convolutions.

    Raises:
        ExportUnsupported: it has next to no matrix products.
    """
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
    from onnxruntime.quantization.onnx_model import ONNXModel

    share = _check_worth(model, request.precision)
    name_nodes(model.graph)
    products = ONNXModel(model)
    products.replace_gemm_with_matmul()
    # Multiplying in int8 as well (`accuracy_level` 4) took 1.2 times as long: these products are small.
    quantizer = MatMulNBitsQuantizer(products.model, bits=BITS, block_size=BLOCK, is_symmetric=True, accuracy_level=0)
    quantizer.process()
    quantized: ModelProto = quantizer.model.model
    notes = [f"the weights of matrix products, {share:.0%} of all, are int4"]
    in_int8 = quantize_weights(quantized.graph)
    if in_int8:
        notes.append(f"of the others: {NOTE}")
    return quantized, Made(notes=tuple(notes), session=SESSION if in_int8 else {})


def _check_worth(model: ModelProto, precision: str) -> float:
    """Return the share of the weights that matrix products hold."""
    graph = model.graph
    products = [node for node in graph.node if node.op_type in ("MatMul", "Gemm")]
    names = {name for node in products for name in node.input} & {name for name, _ in weights(graph)}
    share = sum(tensor_bytes(tensor) for tensor in graph.initializer if tensor.name in names) / max(
        weight_bytes(graph), 1
    )
    if share < WORTH:
        raise ExportUnsupported(
            f"onnx {precision} is for matrix products, which hold {share:.0%} of this model's weights; "
            "use --int8 or --precision int8-weights"
        )
    return share
