"""int8 is exact on every processor: the probe tells whether sums saturate, and sessions are opened accordingly."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from zoo.runtime import processor, session
from zoo.runtime.session import EXACT, OnnxPredictor, session_options

from ..conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

ON_X86 = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="onnxruntime has the option on x86 alone"
)
STORED = ROOT / "tests/stability/stored/schema-1/export/onnx-int8"


@pytest.fixture(params=[False, True], ids=["exact", "saturating"])
def saturating(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Take this machine for one whose int8 products saturate, or for one whose do not."""
    for module in (session, processor):
        monkeypatch.setattr(module, "saturates", lambda: request.param)
    return bool(request.param)


def tensor(name: str, kind: int, shape: list[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def test_the_probe_is_one_product() -> None:
    inputs = [tensor("a", TensorProto.UINT8, [2, 2]), tensor("b", TensorProto.INT8, [2, 1])]
    product = helper.make_node("MatMulInteger", ["a", "b"], ["c"])
    graph = helper.make_graph([product], "g", inputs, [tensor("c", TensorProto.INT32, [2, 1])])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 10)])
    assert model.SerializeToString() == processor.PROBE


@pytest.mark.parametrize(("total", "told"), [(64770, False), (32767, True)])
def test_the_probe_tells_by_the_sums(total: int, told: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Session:
        def __init__(self, *_: object, **__: object) -> None: ...

        def run(self, *_: object) -> list[np.ndarray]:
            return [np.full((2, 1), total, np.int32)]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    assert processor.saturates.__wrapped__() is told


def test_a_build_without_the_operator_counts_as_saturating(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(onnxruntime, "InferenceSession", fail)
    assert processor.saturates.__wrapped__() is True


def test_a_line_says_which_kind_this_is(saturating: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for machine, arch in (("x86_64", "x86-64"), ("AMD64", "x86-64"), ("aarch64", "aarch64")):
        monkeypatch.setattr("platform.machine", lambda name=machine: name)
        assert processor.kind().startswith(f"{arch} with{'out VNNI: ' if saturating else ' exact int8 products'}")


def test_the_option_is_set_where_products_saturate(saturating: bool) -> None:
    options = session_options()
    if saturating:
        assert options.get_session_config_entry(EXACT) == "1"
    else:
        with pytest.raises(RuntimeError):
            options.get_session_config_entry(EXACT)


@ON_X86
def test_a_stored_file_gives_the_same_bits_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    golden = np.load(STORED / "golden.npz")
    monkeypatch.setattr(session, "saturates", lambda: True)
    found = OnnxPredictor(STORED / "model.onnx", threads=1)(golden["images"])
    assert np.abs(found - golden["artifact"]).max() < 1e-6


def kinds_of_weights(model_file: Path, out: Path) -> set[str]:
    """The types of the matrices that onnxruntime multiplies with where products saturate."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(out)
    options.add_session_config_entry(EXACT, "1")
    onnxruntime.InferenceSession(model_file, options, providers=["CPUExecutionProvider"])
    tensors = [numpy_helper.to_array(tensor) for tensor in onnx.load(out).graph.initializer]
    return {str(array.dtype) for array in tensors if array.ndim > 1}


def rounded_products(path: Path, largest: int, *, shared: bool = False) -> Path:
    """Write x @ W between roundings, with int8 weights up to `largest`; `shared`: two that read the same ones."""
    rng = np.random.default_rng(0)
    weights = rng.integers(-largest, largest + 1, (8, 8)).astype(np.int8)
    weights[0, 0] = largest
    constants: dict[str, Any] = {"w": weights, "s": np.float32(0.01), "zero": np.int8(0), "middle": np.uint8(128)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "middle"], ["q0"]),
        helper.make_node("DequantizeLinear", ["w", "s", "zero"], ["weights"]),
    ]
    for step in range(2 if shared else 1):
        nodes += [
            helper.make_node("DequantizeLinear", [f"q{step}", "s", "middle"], [f"d{step}"]),
            helper.make_node("MatMul", [f"d{step}", "weights"], [f"y{step}"]),
            helper.make_node("QuantizeLinear", [f"y{step}", "s", "middle"], [f"q{step + 1}"]),
        ]
    nodes.append(helper.make_node("DequantizeLinear", [f"q{step + 1}", "s", "middle"], ["y"]))
    ends = [tensor("x", TensorProto.FLOAT, [1, 8])], [tensor("y", TensorProto.FLOAT, [1, 8])]
    graph = helper.make_graph(
        nodes, "g", *ends, [numpy_helper.from_array(np.array(v), k) for k, v in constants.items()]
    )
    onnx.save(helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 18)]), path)
    return path


@ON_X86
@pytest.mark.parametrize(("largest", "kinds"), [(64, {"int8"}), (65, {"uint8"})])
def test_weights_that_cannot_saturate_stay_as_they_are(largest: int, kinds: set[str], tmp_path: Path) -> None:
    file = rounded_products(tmp_path / "model.onnx", largest)
    assert kinds_of_weights(file, tmp_path / "optimized.onnx") == kinds


def test_a_constant_that_two_read_stops_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(session, "saturates", lambda: True)
    file = rounded_products(tmp_path / "model.onnx", 127, shared=True)
    x = np.random.default_rng(1).normal(0, 0.5, (1, 8)).astype(np.float32)
    wanted = OnnxPredictor(file, threads=1, fused=False)(x)
    assert np.array_equal(OnnxPredictor(file, threads=1)(x), wanted)


def test_a_file_that_nobody_can_run_is_told_either_way(saturating: bool, tmp_path: Path) -> None:
    ends = [tensor("x", TensorProto.FLOAT, [1])], [tensor("y", TensorProto.FLOAT, [1])]
    graph = helper.make_graph([helper.make_node("NoSuchOperator", ["x"], ["y"])], "g", *ends)
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, ir_version=9, opset_imports=opsets), tmp_path / "model.onnx")
    with pytest.raises(Exception, match="NoSuchOperator"):
        OnnxPredictor(tmp_path / "model.onnx")
