"""Weight-only int8: the weights of convolutions and matrix products are int8 in the file; the arithmetic is float."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import ExportUnsupported
from zoo.plugin import Made
from zoo_exporters.onnx.graph import tensor_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

    from zoo.plugin import ExportRequest

SESSION = {"session.disable_quant_qdq": "1"}
"""onnxruntime then unfolds the weights once, as it loads the file; without it, at every call."""
NOTE = (
    "weights are int8 in the file and float in memory; other programs that run it in onnxruntime should set "
    "session.disable_quant_qdq=1 as zoo does, without it it is 2 to 3 times slower"
)
SMALLEST = 512
"""Values; a smaller tensor would gain less than its node and its scales take."""
STEPS = 127
PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def int8_weights(model: ModelProto, request: ExportRequest) -> tuple[ModelProto, Made]:
    """Return `model`, changed, with int8 weights, symmetric, a scale for each output channel.

    Raises:
        ExportUnsupported: there is no weight worth it.
    """
    before = weight_bytes(model.graph)
    changed = quantize_weights(model.graph)
    if not changed:
        raise ExportUnsupported(
            f"onnx {request.precision}: no convolution or matrix product has {SMALLEST} weights or more; use --fp32"
        )
    return model, Made(notes=(NOTE, f"{changed / before:.1%} of the weights are int8"), session=SESSION)


def quantize_weights(graph: GraphProto) -> int:
    """Put the weights of all products in int8 behind a DequantizeLinear; return the bytes that they took as float."""
    from onnx import helper, numpy_helper

    axes = dict(weights(graph))
    nodes, changed = [], 0
    for tensor in list(graph.initializer):
        if tensor.name not in axes or math.prod(tensor.dims) < SMALLEST:
            continue
        values = numpy_helper.to_array(tensor)
        integers, scales = in_steps(values, axes[tensor.name])
        name, stored = tensor.name, [f"{tensor.name}_int8", f"{tensor.name}_scale"]
        # The node takes over the tensor's name, so that whoever reads it needs no change.
        tensor.CopyFrom(numpy_helper.from_array(integers, stored[0]))
        graph.initializer.append(numpy_helper.from_array(scales, stored[1]))
        nodes.append(helper.make_node("DequantizeLinear", stored, [name], axis=axes[name]))
        changed += values.nbytes
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])
    return changed


def weights(graph: GraphProto) -> Iterator[tuple[str, int]]:
    """Yield each float32 constant that a product multiplies with, and the axis of its output channels."""
    from onnx import TensorProto

    tensors = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    for node in graph.node:
        for position, name in enumerate(node.input[:2] if node.op_type in PRODUCTS else ()):
            if name in tensors and len(tensors[name].dims) > 1:
                yield name, output_axis(node, position, tensors[name])


def output_axis(node: NodeProto, position: int, tensor: TensorProto) -> int:
    """Return the axis of a product's constant that the product does not sum over."""
    attributes: dict[str, int] = {attribute.name: attribute.i for attribute in node.attribute}
    last = len(tensor.dims) - 1
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1
    if node.op_type == "Gemm":
        swapped = attributes.get("transB" if position else "transA", 0)
        return position ^ swapped
    return last if position else last - 1


def in_steps(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Return float32 weights as int8 of their shape, and the float32 size of a step for each index of `axis`."""
    others = tuple(i for i in range(values.ndim) if i != axis)
    scales = np.abs(values).max(others, keepdims=True).astype(np.float32) / np.float32(STEPS)
    scales = np.where(scales < np.finfo(np.float32).tiny, np.float32(1), scales)
    return np.rint(values / scales).astype(np.int8), scales.reshape(-1)


def weight_bytes(graph: GraphProto) -> int:
    """Return the bytes of a graph's constants."""
    return sum(tensor_bytes(tensor) for tensor in graph.initializer)
