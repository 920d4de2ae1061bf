"""The products of a graph, which are what int8 can make faster, and what kind each of them is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo_exporters.onnx.reading import PRODUCTS

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto


@dataclass(frozen=True)
class Product:
    """A convolution or matrix product with constant weights: what int8 can make faster."""

    name: str
    kind: str
    """stem, full, pointwise, depthwise, grouped (convolutions), gate (one position: Squeeze-Excite), matrix."""
    side: int
    """Width of its output in positions; the number of its outputs for a matrix product; 0 if unknown."""
    cost: int
    """Multiplications an image, about."""

    @property
    def group(self) -> str:
        """Its kind and size: what is tried together."""
        return f"{self.kind} {self.side}"


def products(model: ModelProto) -> list[Product]:
    """Return the products with constant weights, in the graph's order."""
    import onnx

    graph = model.graph
    known = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    sides = {value.name: _last_side(value) for value in [*known.value_info, *known.output]}
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    found: list[Product] = []
    for node in graph.node:
        if node.op_type in PRODUCTS and (shape := weights.get(node.input[1])):
            kind, side = _kind(node, shape, sides.get(node.output[0], 0))
            first = kind != "matrix" and not any(product.kind == "stem" for product in found)
            positions = max(side, 1) ** 2 if kind != "matrix" else 1
            found.append(Product(node.name, "stem" if first else kind, side, math.prod(shape) * positions))
    return found


def _last_side(value: object) -> int:
    dims = value.type.tensor_type.shape.dim  # type: ignore[attr-defined]
    return int(dims[-1].dim_value) if len(dims) == 4 else 0


def _kind(node: NodeProto, shape: tuple[int, ...], side: int) -> tuple[str, int]:
    if node.op_type != "Conv":
        return "matrix", shape[-1]
    groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    if side == 1:
        return "gate", side
    if groups == shape[0]:
        return "depthwise", side
    if groups > 1:
        return "grouped", side
    return ("pointwise" if shape[2:] == (1, 1) else "full"), side
