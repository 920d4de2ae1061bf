"""Which products are added in 16 bits on x86 without VNNI, position by position; and that no file of ours saturates."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from zoo_exporters.onnx.int8.pairs import in_order

from ..tools import call

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.records.artifact import Artifact

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("devices")]

ASK = """
import json, sys
import numpy as np
import onnxruntime

options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.log_severity_level = 1, 4
told = {}
for file in sys.argv[1:]:
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    taken = session.get_inputs()[0]
    (answer,) = session.run(None, {taken.name: np.full(taken.shape, 255, np.uint8)})
    middle = answer[0, :, 4, 4] if answer.ndim == 4 else answer[0]
    told[file] = middle.tolist()
print(json.dumps(told))
"""
PLAIN = """
import sys
from pathlib import Path
import numpy as np
import onnxruntime

folder = Path(sys.argv[1])
golden = np.load(folder / "golden.npz")
session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
print(float(np.abs(session.run(["probabilities"], {"image": golden["images"]})[0] - golden["artifact"]).max()))
"""
STEP = 300
"""Of the result: 2 x 127 x 255 is 216 steps, what is left of it in 16 bits is 109."""
WHOLE = round(2 * 127 * 255 / STEP)
CASES = {
    # name: inputs of a group, side of the kernel, groups
    "pointwise, 8 channels": (8, 1, 1),
    "pointwise, 5 channels": (5, 1, 1),
    "stem, 3 channels": (3, 3, 1),
    "3 x 3, 8 channels": (8, 3, 1),
    "3 x 3, 5 channels": (5, 3, 1),
    "2 groups of 4": (4, 3, 2),
    "4 groups of 3": (3, 3, 4),
    "depthwise": (1, 3, 0),
    "depthwise, two outputs each": (1, 3, -2),
}


def convolution(inputs: int, side: int, groups: int) -> tuple[onnx.ModelProto, list[tuple[int, int]]]:
    """Return a convolution whose every output reads two weights of 127, and which two, in the order of the sums."""
    pairs = list(itertools.combinations(range(side * side * inputs), 2))
    if groups <= 0:  # depthwise: as many groups as it takes
        groups = len(pairs) // max(-groups, 1)
    outputs = -(-len(pairs) // groups) * groups
    rows = np.zeros((outputs, side * side * inputs), np.int8)
    for row, pair in zip(rows, pairs, strict=False):
        row[list(pair)] = 127
    weights = rows.reshape(outputs, side, side, inputs).transpose(0, 3, 1, 2)
    node = helper.make_node("Conv", ["xf", "wf"], ["yf"], pads=[side // 2] * 4, group=groups)
    return quantized(node, weights, [1, inputs * groups, 9, 9], axis=0), pairs


def matrix(kind: str) -> tuple[onnx.ModelProto, list[tuple[int, int]]]:
    pairs = list(itertools.combinations(range(13), 2))
    weights = np.zeros((13, len(pairs)), np.int8)
    for column, pair in enumerate(pairs):
        weights[list(pair), column] = 127
    if kind == "MatMulInteger":
        node = helper.make_node(kind, ["x", "w"], ["y"])
        graph = helper.make_graph(
            [node],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.UINT8, [4, 13])],
            [helper.make_tensor_value_info("y", TensorProto.INT32, None)],
            [numpy_helper.from_array(weights, "w")],
        )
        return helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)]), pairs
    given: dict[str, Any] = {"transB": 1} if kind == "Gemm" else {}
    node = helper.make_node(kind, ["xf", "wf"], ["yf"], **given)
    return quantized(node, weights.T if given else weights, [4, 13], axis=0 if given else 1), pairs


def quantized(node: onnx.NodeProto, weights: np.ndarray, shape: list[int], axis: int) -> onnx.ModelProto:
    """Put one product between roundings: uint8 in steps of 1 in, uint8 in steps of STEP out."""
    count = weights.shape[axis]
    constants = {
        "w": np.ascontiguousarray(weights),
        "ws": np.ones(count, np.float32),
        "wz": np.zeros(count, np.int8),
        "one": np.float32(1),
        "zero": np.uint8(0),
        "step": np.float32(STEP),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "one", "zero"], ["xf"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wf"], axis=axis),
        node,
        helper.make_node("QuantizeLinear", ["yf", "step", "zero"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, None)],
        [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)])


def test_neighbours_are_who_we_take_them_for(haswell_python: list[str], tmp_path: Path) -> None:
    made = {name: convolution(*case) for name, case in CASES.items()}
    made |= {kind: matrix(kind) for kind in ("MatMul", "Gemm", "MatMulInteger")}
    files = {}
    for number, (name, (model, _)) in enumerate(made.items()):
        files[name] = str(tmp_path / f"{number}.onnx")
        onnx.save(model, files[name])
    told = json.loads(call(*haswell_python, "-c", ASK, *files.values()))
    for name, (model, pairs) in made.items():
        sums = np.array(told[files[name]][: len(pairs)])
        wrong = sums != (2 * 127 * 255 if name == "MatMulInteger" else WHOLE)
        saturated = {pair for pair, is_wrong in zip(pairs, wrong, strict=True) if is_wrong}
        product = next(node for node in model.graph.node if node.op_type in ("Conv", "MatMul", "Gemm", "MatMulInteger"))
        weights = next(numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name == "w")
        length = max(second for _, second in pairs) + 1
        adds_in_16_bits = in_order(product, weights) is not None
        wanted = {(first, first + 1) for first in range(0, length - 1, 2)} if adds_in_16_bits else set()
        assert saturated == wanted, name


def test_a_fresh_file_needs_no_option_there(haswell_python: list[str], artifacts: dict[str, Artifact]) -> None:
    artifact = artifacts["int8"]
    assert artifact.report.saturates is False
    assert float(call(*haswell_python, "-c", PLAIN, artifact.path)) <= 1e-6
