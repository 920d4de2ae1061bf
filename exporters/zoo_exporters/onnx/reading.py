"""Reading an ONNX graph: what is the same for every image, what only sees pixels, what only makes answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo_exporters.onnx.graph import INPUT

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

PRODUCTS = ("Conv", "Gemm", "MatMul")
MATRIX_PRODUCTS = ("Gemm", "MatMul")


def constants(graph: GraphProto) -> set[str]:
    """Name the tensors that are the same for every image."""
    named = {tensor.name for tensor in graph.initializer}
    return named | {output for node in graph.node if node.op_type == "Constant" for output in node.output}


def makers(graph: GraphProto) -> dict[str, NodeProto]:
    """Return tensor -> the node that makes it."""
    return {output: node for node in graph.node for output in node.output}


def preprocessing(graph: GraphProto) -> set[str]:
    """Name the nodes that see pixels and nothing that a convolution or matrix product made of them."""
    pixels, features = {INPUT}, set[str]()
    names = set()
    for node in graph.node:  # ONNX demands topological order
        if node.op_type in PRODUCTS or features.intersection(node.input):
            features.update(node.output)
        elif pixels.intersection(node.input):
            pixels.update(node.output)
            names.add(node.name)
    return names


def answers(graph: GraphProto) -> set[str]:
    """Name the nodes that only look at what the last products made: from logits to the outputs of the graph."""
    users: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for tensor in node.input:
            users.setdefault(tensor, []).append(node)
    outputs = {value.name for value in graph.output}
    names: set[str] = set()
    for node in reversed(graph.node):
        after = [user for output in node.output for user in users.get(output, [])]
        ends = any(output in outputs for output in node.output)
        if node.op_type not in PRODUCTS and (after or ends) and all(user.name in names for user in after):
            names.add(node.name)
    return names
