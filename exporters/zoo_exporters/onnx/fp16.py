"""fp16: half of the bytes, for devices that compute in it; the pixels and the probabilities stay in float32."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.plugin import Made
from zoo_exporters.calibration import calibration_batches
from zoo_exporters.onnx.graph import INPUT, OUTPUT, name_nodes
from zoo_exporters.onnx.reading import answers, preprocessing

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

    from zoo.plugin import ExportRequest

UP = re.compile("graph_output_cast|.*_cast_to_fp32_node$")
"""The names that the converter gives to its nodes from fp16 to fp32."""
LARGEST = 65504 / 4
"""What a value may reach on calibration images, a quarter of the largest that fp16 holds: others may reach further."""
TAKEN_APART = ("HardSigmoid", "HardSwish")
"""onnxruntime has no fp16 kernel for them on CPUs and replaces each by four that are slow: 25 times for MobileNetV3."""
IMAGES = 16
"""Enough to see a layer's order of magnitude."""


def half(model: ModelProto, request: ExportRequest) -> tuple[ModelProto, Made]:
    """Return `model` in fp16 but for what makes pixels into numbers, numbers into probabilities, or would overflow.

    Raises:
        ExportUnsupported: there are no calibration images.
    """
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    name_nodes(model.graph)
    overflowing = _overflowing(model, request)
    float_ends = preprocessing(model.graph) | answers(model.graph)
    converted = convert_float_to_float16(
        model,
        keep_io_types=[OUTPUT],
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, *TAKEN_APART],
        node_block_list=sorted(float_ends | overflowing.keys()),
    )
    largest = max(overflowing.values(), default=0.0)
    note = f"{len(overflowing)} nodes stay in fp32, whose values reach {largest:.3g}: fp16 ends at 65504"
    return _without_detours(converted), Made(
        notes=(note,) if overflowing else (), layers=dict.fromkeys(sorted(overflowing), "fp32")
    )


def _without_detours(model: ModelProto) -> ModelProto:
    """Sort the nodes, and take out the converter's ways from one fp32 node over fp16 to the next, which round."""
    from onnxruntime.quantization.onnx_model import ONNXModel

    graph = model.graph
    _keep_one_of_each(graph)
    down = {node.output[0]: node.input[0] for node in graph.node if node.name.endswith("_cast_to_fp16_node")}
    up = {node.output[0]: node for node in graph.node if UP.match(node.name)}
    direct = {name: down[node.input[0]] for name, node in up.items() if node.input[0] in down}
    outputs = {direct[value.name]: value.name for value in graph.output if value.name in direct}
    for node in graph.node:
        node.input[:] = [outputs.get(name, name) for name in (direct.get(name, name) for name in node.input)]
    sorted_model = ONNXModel(model)
    sorted_model.remove_nodes([up[name] for name in direct])
    for node in graph.node:
        node.output[:] = [outputs.get(name, name) for name in node.output]
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    sorted_model.remove_nodes([node for node in graph.node if node.output[0] in down and node.output[0] not in used])
    sorted_model.topological_sort()
    del graph.value_info[:]
    return model


def _keep_one_of_each(graph: GraphProto) -> None:
    # What several nodes in fp32 read is cast once for each of them, every time to the same name.
    nodes = {node.output[0]: node for node in reversed(graph.node)}
    kept = [node for node in graph.node if node is nodes[node.output[0]]]
    del graph.node[:]
    graph.node.extend(kept)


def _overflowing(model: ModelProto, request: ExportRequest) -> dict[str, float]:
    """Return node -> the largest value that goes in or out, for those near fp16's end."""
    largest = _largest_values(model, request)
    found = {}
    for node in model.graph.node:
        reached = max((largest.get(name, 0.0) for name in (*node.input, *node.output)), default=0.0)
        if not reached <= LARGEST:
            found[node.name] = reached
    return found


def _largest_values(model: ModelProto, request: ExportRequest) -> dict[str, float]:
    """Run the model in fp32 on some calibration images; return tensor -> its largest magnitude, NaN included."""
    import onnxruntime

    largest: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="zoo-fp16-") as folder:
        file = Path(folder, "watched.onnx")
        names = _write_watched(model, file)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # its C++ side writes to the terminal behind sys.stderr's back
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        images = next(calibration_batches(request))[:IMAGES]
        for image in images:
            for name, values in zip(names, session.run(names, {INPUT: image[None]}), strict=True):
                reached = float(np.abs(values).max(initial=0.0))
                largest[name] = max(largest.get(name, 0.0), reached if reached == reached else np.inf)
    return largest


def _write_watched(model: ModelProto, file: Path) -> list[str]:
    """Write a copy of the model that gives out every float tensor; return their names."""
    import onnx
    from onnx import TensorProto

    watched = onnx.shape_inference.infer_shapes(model)
    have = {value.name for value in watched.graph.output}
    inside = [v for v in watched.graph.value_info if v.type.tensor_type.elem_type == TensorProto.FLOAT]
    made = {name for node in watched.graph.node for name in node.output}
    watched.graph.output.extend(value for value in inside if value.name in made - have)
    onnx.save(watched, file)
    return [v.name for v in watched.graph.output]
