"""Taking rounding out of a quantized graph where it costs answers and saves nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo_exporters.onnx.reading import makers

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto


def keep_float(graph: GraphProto, names: set[str]) -> None:
    """Take out the rounding of what nodes read: of logits it makes close classes equal, and float is free there."""
    made = makers(graph)
    removed: list[NodeProto] = []
    for node in graph.node:
        for index, tensor in enumerate(node.input if node.name in names else ()):
            dequantize = made.get(tensor)
            quantize = made.get(dequantize.input[0]) if _is(dequantize, "DequantizeLinear") and dequantize else None
            if dequantize and quantize and _is(quantize, "QuantizeLinear"):
                node.input[index] = quantize.input[0]
                removed += [dequantize, quantize]
    remove_unused(graph, removed)


def _is(node: NodeProto | None, op_type: str) -> bool:
    return node is not None and node.op_type == op_type


def remove_unused(graph: GraphProto, nodes: list[NodeProto]) -> None:
    """Remove those of `nodes`, listed users first, whose result nobody reads, and initializers that nobody reads."""
    for node in nodes:
        used = {tensor for other in graph.node for tensor in other.input} | {value.name for value in graph.output}
        if node in graph.node and not used.intersection(node.output):
            graph.node.remove(node)
    used = {tensor for node in graph.node for tensor in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
