"""A prepared graph and a recipe -> the int8 graph, by onnxruntime's quantizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from zoo_exporters.onnx.dynamic import dynamic
from zoo_exporters.onnx.int8.normalise import normalise_in_place
from zoo_exporters.onnx.int8.pairs import bounded_steps, in_order, steps_of
from zoo_exporters.onnx.int8.recipe import ALWAYS_FOLLOW, FOLLOWERS
from zoo_exporters.onnx.int8.rounding import keep_float
from zoo_exporters.onnx.int8.treat import plain_steps
from zoo_exporters.onnx.reading import MATRIX_PRODUCTS, PRODUCTS, answers, constants, makers, preprocessing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onnx import ModelProto, NodeProto

    from zoo.plugin import Target
    from zoo_exporters.onnx.int8.ranges import Range
    from zoo_exporters.onnx.int8.recipe import Recipe
    from zoo_exporters.onnx.int8.treat import Steps

HALF = 128
"""The zero point that puts Hard-Sigmoid's 0.5 in the middle of uint8."""


def quantize(model: ModelProto, recipe: Recipe, ranges: Mapping[str, Range], target: Target) -> ModelProto:
    """Return a copy of `model` as `recipe` says, in QDQ form: int8 weights by channel, activations as the target likes.

    Args:
        model: Prepared, in fp32.
        recipe: What to do.
        ranges: Of every float tensor.
        target: Tells the activations' type, and whether weights get 7 bits.
    """
    quantized = _static(model, recipe, ranges, target) if recipe.static else _copy(model)
    keep_float(quantized.graph, answers(model.graph))
    normalise_in_place(quantized)
    if recipe.saturate:
        saturate_hard_sigmoids(quantized)
    if recipe.dynamic:
        matrices = {node.name for node in quantized.graph.node if node.op_type in MATRIX_PRODUCTS}
        bounded = is_bounded(recipe, target)
        given = {"reduce_range": target.reduce_range and not bounded, "bounded": bounded}
        quantized = dynamic(quantized, leave_out=frozenset(matrices - recipe.dynamic), **given)
    return quantized


def _copy(model: ModelProto) -> ModelProto:
    import onnx

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


def _static(model: ModelProto, recipe: Recipe, ranges: Mapping[str, Range], target: Target) -> ModelProto:
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    chosen = in_int8(model, recipe)
    found = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    extra: dict[str, Any] = {"OpTypesToExcludeOutputQuantization": list(PRODUCTS)} if recipe.float_results else {}
    bounded = steps_of(model, recipe.static) if is_bounded(recipe, target) else {}
    extra["TensorQuantOverrides"] = {name: _by_channel(axis, steps) for name, (axis, steps) in bounded.items()}
    quantizer = QDQQuantizer(
        _copy(model),
        True,
        target.reduce_range and not bounded,
        QuantType.QInt8,
        QuantType.QUInt8 if target.activations == "uint8" else QuantType.QInt8,
        TensorsData(CalibrationMethod.MinMax, found),
        sorted(chosen),
        [],
        sorted({node.op_type for node in model.graph.node if node.name in chosen}),
        extra,
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantized: ModelProto = quantizer.model.model
    return quantized


def is_bounded(recipe: Recipe, target: Target) -> bool:
    """Whether weights are held so small that no sum of neighbours saturates: signed activations have other kernels."""
    return target.activations == "uint8" and not recipe.eight_bits


def steps_for(recipe: Recipe, target: Target) -> Steps:
    """Return what tells the steps that `quantize` rounds a convolution's weights in."""
    plain = plain_steps(7 if target.reduce_range and not is_bounded(recipe, target) else 8)

    def steps(node: NodeProto, weight: np.ndarray) -> np.ndarray:
        ordered = in_order(node, weight) if is_bounded(recipe, target) else None
        return bounded_steps(ordered[1]) if ordered else plain(node, weight)

    return steps


def _by_channel(axis: int, steps: np.ndarray) -> list[dict[str, Any]]:
    return [{"axis": axis, "scale": np.array(step), "zero_point": np.array(0, np.int8)} for step in steps]


def in_int8(model: ModelProto, recipe: Recipe) -> set[str]:
    """Name the nodes that compute in int8: the recipe's products, and those that go along with them."""
    follow = FOLLOWERS[recipe.follow] | ALWAYS_FOLLOW
    follow |= {"HardSigmoid"} if recipe.saturate else frozenset()
    fixed = constants(model.graph)
    outside = preprocessing(model.graph) | answers(model.graph)
    names, tensors = set[str](), set[str]()
    for node in model.graph.node:
        read = [tensor for tensor in node.input if tensor and tensor not in fixed]
        along = node.op_type in follow and node.name not in outside and read and tensors.issuperset(read)
        if node.name in recipe.static or along:
            names.add(node.name)
            tensors.update(node.output)
    return names


def saturate_hard_sigmoids(model: ModelProto) -> None:
    """Let the limits of uint8 do the work of Hard-Sigmoid: max(0, min(1, x / 6 + 1/2)).

    x times 1, rounded in steps of 6/255 about a zero point in the middle, saturates at -3 and 3; the same numbers, read
    in steps of 1/255 about 0, are the result.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    made = makers(graph)
    one = [("zoo_one", np.uint8(1)), ("zoo_one_scale", np.float32(1)), ("zoo_zero", np.uint8(0))]
    steps = [("zoo_six", np.float32(6 / 255)), ("zoo_half", np.uint8(HALF)), ("zoo_unit", np.float32(1 / 255))]
    for node in [node for node in graph.node if _hard_sigmoid(node)]:
        quantize = next((user for user in graph.node if node.output[0] in user.input), None)
        source = made.get(node.input[0])
        if not quantize or quantize.op_type != "QuantizeLinear" or not source or source.op_type != "DequantizeLinear":
            continue
        dequantize = next(user for user in graph.node if quantize.output[0] in user.input)
        name = node.name
        read_one = helper.make_node("DequantizeLinear", ["zoo_one", "zoo_one_scale", "zoo_zero"], [f"{name}_one"])
        times = helper.make_node("Mul", [node.input[0], f"{name}_one"], [node.output[0]], name=f"{name}_saturated")
        position = list(graph.node).index(node)
        graph.node.remove(node)
        read_one.name = f"{name}_read_one"
        graph.node.insert(position, times)
        graph.node.insert(position, read_one)
        quantize.input[1:] = ["zoo_six", "zoo_half"]
        dequantize.input[1:] = ["zoo_unit", "zoo_zero"]
    if any(node.name.endswith("_saturated") for node in graph.node):
        graph.initializer.extend(numpy_helper.from_array(np.array(value), key) for key, value in one + steps)


def _hard_sigmoid(node: NodeProto) -> bool:
    given = {attribute.name: attribute.f for attribute in node.attribute}
    return node.op_type == "HardSigmoid" and abs(given.get("alpha", 0.2) - 1 / 6) < 1e-3
