"""Whether a finished graph may saturate on x86 before VNNI, found from its own weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from zoo.runtime.session import EXACT
from zoo_exporters.onnx.int8.pairs import PAIR, in_order, worst_pairs
from zoo_exporters.onnx.reading import PRODUCTS, makers

if TYPE_CHECKING:
    from onnx import ModelProto

NEEDED = {EXACT: "1"}
"""What a runtime must set for a file whose sums may saturate."""
HALF = 64
"""Weights up to here saturate in no order."""


def may_saturate(model: ModelProto) -> bool | None:
    """Return whether two neighbouring products of a graph may pass 16 bits; None where none is computed in int8.

    Args:
        model: In QDQ form, with or without products whose activations are rounded as it runs.
    """
    from onnx import TensorProto, numpy_helper

    made = makers(model.graph)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    found: list[bool] = []
    for node in model.graph.node:
        name = node.input[1] if node.op_type == "MatMulInteger" else ""
        if node.op_type in PRODUCTS and all(tensor in made for tensor in node.input[:2]):
            read = [made[tensor] for tensor in node.input[:2]]
            name = read[1].input[0] if all(one.op_type == "DequantizeLinear" for one in read) else ""
        if name in tensors and tensors[name].data_type == TensorProto.INT8:
            weights = numpy_helper.to_array(tensors[name]).astype(np.int32)
            ordered = in_order(node, weights)
            alone = node.op_type == "Conv" and ordered is None
            beyond = np.abs(weights).max(initial=0) > HALF if ordered is None else worst_pairs(ordered[1]).max() > PAIR
            found.append(bool(beyond) and not alone)
    return any(found) if found else None


def noted(model: ModelProto) -> dict[str, str]:
    """Return the session option that tells zoo's runtime whether a processor that saturates has to be told not to."""
    may = may_saturate(model)
    return {} if may is None else NEEDED if may else {EXACT: "0"}
