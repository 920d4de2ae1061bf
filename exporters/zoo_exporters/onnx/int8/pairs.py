"""Scales with which no two neighbouring int8 products can saturate a 16-bit sum.

x86 before VNNI multiplies uint8 by int8 two at a time and adds both products in 16 bits (`vpmaddubsw`), so that
255 * (w0 + w1) must lie within -32768 and 32767. Which weights are neighbours is a matter of the order in which
onnxruntime's kernels pack them, along what is summed: convolutions go through all channels of one place of the kernel,
then of the next. `tests/devices/test_pairs.py` finds that out position by position, on a processor without VNNI.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from zoo_exporters.onnx.reading import PRODUCTS

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

LARGEST = 127
PAIR = 128
"""What two neighbours of one sign may come to: 255 * 128 is 32640, and half a step more would be too much."""
WIDER = 1 + 1 / 256
"""By how much a step grows while rounding still brings a pair above."""


def bounded_steps(rows: np.ndarray) -> np.ndarray:
    """Return the step of each output channel, float32 [O]: the smallest with which no pair of its weights saturates.

    Halving all weights, as onnxruntime's `reduce_range` does, bounds every pair as well, and never by a finer step.

    Args:
        rows: float32 [O, K], each channel's weights in the order in which they are summed.
    """
    largest = np.abs(rows).max(1, initial=0) / LARGEST
    steps = np.maximum(np.maximum(largest, worst_pairs(rows) / PAIR), np.finfo(np.float32).tiny).astype(np.float32)
    while (over := worst_pairs(np.round(rows / steps[:, None])) > PAIR).any():
        steps = np.where(over, steps * np.float32(WIDER), steps)
    found: np.ndarray = steps
    return found


def in_order(node: NodeProto, weights: np.ndarray) -> tuple[int, np.ndarray] | None:
    """Return a product's axis of output channels, and its weights as [O, K], in the order in which they are summed.

    None where none can saturate: a depthwise convolution of one output for each input has a kernel of its own, which
    adds in 32 bits. None as well for a stack of matrices, which onnxruntime does not round by channel.
    """
    if node.op_type == "Conv":
        groups = next((int(given.i) for given in node.attribute if given.name == "group"), 1)
        alone = weights.shape[1] == 1 and groups == len(weights)
        return None if alone else (0, np.moveaxis(weights, 1, -1).reshape(len(weights), -1))
    if weights.ndim != 2:
        return None
    return (0, weights) if any(given.name == "transB" and given.i for given in node.attribute) else (1, weights.T)


def steps_of(model: ModelProto, names: frozenset[str]) -> dict[str, tuple[int, np.ndarray]]:
    """Return weights -> their axis of output channels and the bounded step of each, for the products of these names."""
    from onnx import numpy_helper

    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    found: dict[str, tuple[int, np.ndarray]] = {}
    for node in model.graph.node:
        if node.op_type not in PRODUCTS or node.name not in names or node.input[1] not in tensors:
            continue
        ordered = in_order(node, numpy_helper.to_array(tensors[node.input[1]]))
        if ordered:
            axis, steps = ordered[0], bounded_steps(ordered[1])
            # Weights that two products share are bounded for both.
            before = found.get(node.input[1], (axis, steps))[1]
            found[node.input[1]] = (axis, np.maximum(before, steps))
    return found


def worst_pairs(rows: np.ndarray) -> np.ndarray:
    """Return the largest sum of two neighbours of one sign, of each row of [O, K]."""
    even = rows[:, : rows.shape[1] // 2 * 2]
    if not even.shape[1]:
        return np.zeros(len(rows), rows.dtype)
    pairs = even.reshape(len(rows), -1, 2)
    above, below = np.maximum(pairs, 0).sum(2), np.maximum(-pairs, 0).sum(2)
    worst: np.ndarray = np.maximum(above, below).max(1)
    return worst
