"""Changes to an fp32 graph that leave its answers alone and make them survive int8."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo_exporters.onnx.reading import makers

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from onnx import GraphProto, ModelProto, NodeProto

Steps = Callable[["NodeProto", np.ndarray], np.ndarray]
SMALLEST_SCALE, LARGEST_SCALE = 0.1, 10.0


def equalized(model: ModelProto) -> ModelProto:
    """Return a copy whose consecutive convolutions share out their channels' scales evenly.

    A channel that one convolution makes large and the next reads with small weights costs int8 all the others' digits.
    Between the two only a ReLU may stand, which lets a positive factor through (Nagel et al., "Data-free quantization
    through weight equalization and bias correction", ICCV 2019).
    """
    import onnx

    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    weights = _Weights(changed.graph)
    for first, second in _pairs(changed.graph):
        _equalize(weights, first, second)
    weights.store()
    return changed


def with_biases_corrected(
    model: ModelProto, products: Collection[str], means: Mapping[str, np.ndarray], steps: Steps
) -> ModelProto:
    """Return a copy whose biases make up for what rounding the weights does to each channel's mean.

    The mean of (W - rounded W) x is (W - rounded W) times the mean of x (Nagel et al., ICCV 2019, section 4.2). Those
    without a bias are left alone: after BatchNorm is folded few have none.

    Args:
        model: In fp32.
        products: Those whose weights will be rounded, each output channel for itself.
        means: Tensor -> the mean of each channel, float64 [C].
        steps: The steps that they will be rounded in, float32 [O], of a product and its weights.
    """
    import onnx

    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    weights = _Weights(changed.graph)
    for node in changed.graph.node:
        known = len(node.input) > 2 and node.input[1] in weights and node.input[2] in weights
        if node.name in products and known and node.op_type == "Conv" and node.input[0] in means:
            weight = weights[node.input[1]]
            shift = _shift(weight, means[node.input[0]], _groups(node), steps(node, weight))
            weights[node.input[2]] = weights[node.input[2]] + shift
    weights.store()
    return changed


def plain_steps(bits: int) -> Steps:
    """Return what tells the steps of weights that use all of their bits, each output channel for itself."""

    def steps(_: NodeProto, weight: np.ndarray) -> np.ndarray:
        largest = np.abs(weight.reshape(len(weight), -1)).max(1)
        found: np.ndarray = np.maximum(largest, 1e-12) / (2 ** (bits - 1) - 1)
        return found

    return steps


def _shift(weight: np.ndarray, mean: np.ndarray, groups: int, steps: np.ndarray) -> np.ndarray:
    """Return float64 [outputs] for weights [outputs, inputs of a group, h, w] and means of all inputs."""
    rows, step = weight.reshape(len(weight), -1), steps[:, None]
    lost = (rows - np.round(rows / step) * step).reshape(*weight.shape[:2], -1).sum(2, dtype=np.float64)
    of_group = np.repeat(mean.reshape(groups, -1), len(weight) // groups, 0)
    shift: np.ndarray = (lost * of_group).sum(1)
    return shift


class _Weights:
    """The initializers of a graph as arrays; `store` puts changed ones back."""

    def __init__(self, graph: GraphProto) -> None:
        self._graph = graph
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._changed: dict[str, np.ndarray] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __getitem__(self, name: str) -> np.ndarray:
        from onnx import numpy_helper

        found: Any = self._changed.get(name)
        return numpy_helper.to_array(self._tensors[name]) if found is None else found

    def __setitem__(self, name: str, value: np.ndarray) -> None:
        self._changed[name] = value.astype(np.float32)

    def store(self) -> None:
        from onnx import numpy_helper

        for name, value in self._changed.items():
            self._tensors[name].CopyFrom(numpy_helper.from_array(value, name))


def _pairs(graph: GraphProto) -> list[tuple[NodeProto, NodeProto]]:
    """Find Conv -> (ReLU) -> Conv where nobody else reads what is between, nor the same weights."""
    made = makers(graph)
    readers: dict[str, int] = {}
    for node in graph.node:
        for tensor in node.input:
            readers[tensor] = readers.get(tensor, 0) + 1
    outputs = {value.name for value in graph.output}

    def own(tensor: str) -> bool:
        return readers.get(tensor) == 1 and tensor not in outputs

    found = []
    for second in graph.node:
        before = made.get(second.input[0]) if second.op_type == "Conv" and own(second.input[0]) else None
        if before is not None and before.op_type == "Relu":
            before = made.get(before.input[0]) if own(before.input[0]) else None
        if (
            before is not None
            and before.op_type == "Conv"
            and all(own(t) for t in (*before.input[1:], second.input[1]))
        ):
            found.append((before, second))
    return found


def _groups(node: NodeProto) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == "group"), 1)


def _equalize(weights: _Weights, first: NodeProto, second: NodeProto) -> None:
    if first.input[1] not in weights or second.input[1] not in weights:
        return
    made, read = weights[first.input[1]], weights[second.input[1]]
    groups, channels = _groups(second), len(made)
    # [groups, outputs of a group, inputs of a group, ...]: an input channel's weights lie in its own group.
    grouped = read.reshape(groups, len(read) // groups, *read.shape[1:])
    if groups * grouped.shape[2] != channels:
        return
    size_made = np.abs(made.reshape(channels, -1)).max(1)
    size_read = np.abs(grouped).max(axis=(1, *range(3, grouped.ndim))).reshape(channels)
    usable = (size_made > 0) & (size_read > 0)
    ratio = np.divide(size_made, size_read, out=np.ones_like(size_made), where=usable)
    scale = np.where(usable, np.sqrt(ratio), 1.0).clip(SMALLEST_SCALE, LARGEST_SCALE)
    weights[first.input[1]] = made / scale.reshape(-1, *[1] * (made.ndim - 1))
    if len(first.input) > 2:
        weights[first.input[2]] = weights[first.input[2]] / scale
    shaped = scale.reshape(groups, 1, -1, *[1] * (grouped.ndim - 3))
    weights[second.input[1]] = (grouped * shaped).reshape(read.shape)
