"""Normalisation before a first convolution in int8: written so that onnxruntime leaves it in the pixels' layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from zoo_exporters.onnx.reading import makers, preprocessing

if TYPE_CHECKING:
    from onnx import ModelProto


def normalise_in_place(model: ModelProto) -> None:
    """Write (x - mean) / std as one BatchNormalization, where what it gives is rounded to int8.

    onnxruntime computes int8 convolutions on NHWC and moves the transposition past a Sub and a Div, which then go over
    three channels at a time: 0.17 ms of resnet18's 1.42 at 96 px. Past a BatchNormalization it moves nothing.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    made, sees_pixels = makers(graph), preprocessing(graph)
    rounded = {node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    by_channel = {t.name: numpy_helper.to_array(t).ravel() for t in graph.initializer if tuple(t.dims)[1:] == (1, 1)}
    for divide in [node for node in graph.node if node.op_type == "Div" and node.output[0] in rounded]:
        subtract = made.get(divide.input[0])
        if subtract is None or subtract.op_type != "Sub" or subtract.name not in sees_pixels:
            continue
        mean, std = by_channel.get(subtract.input[1]), by_channel.get(divide.input[1])
        if mean is None or std is None or len(mean) != len(std):
            continue
        parts = {"scale": 1 / std, "bias": np.zeros_like(std), "mean": mean, "variance": np.ones_like(std)}
        named = {f"{divide.name}_{part}": value.astype(np.float32) for part, value in parts.items()}
        graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in named.items())
        inputs = [subtract.input[0], *named]
        whole = helper.make_node("BatchNormalization", inputs, [divide.output[0]], f"{divide.name}_whole", epsilon=0.0)
        graph.node.insert(list(graph.node).index(subtract), whole)
        graph.node.remove(subtract)
        graph.node.remove(divide)
