"""The float graph: whichever way it was made, it answers as the model does, and holds nothing that it need not."""

from __future__ import annotations

import getpass
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from zoo.errors import ArtifactInvalid, ExportUnsupported
from zoo.plugin import Target
from zoo_exporters.onnx import fp32, graph, makers
from zoo_exporters.onnx.exporter import OnnxExporter
from zoo_exporters.onnx.fp32 import exportable, float_model
from zoo_exporters.onnx.graph import save
from zoo_exporters.onnx.makers import MAKERS
from zoo_exporters.onnx.parity import Parity, eager
from zoo_exporters.onnx.simplify import simplified
from zoo_exporters.quiet import reason

from .conftest import CLASSES, SIDE, BranchesOnPixels, make_backbone, make_request, pictures

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from zoo.plugin import ExportRequest

EXPORTER = OnnxExporter()
TRACE, DYNAMO = MAKERS
EACH_MAKER = pytest.mark.parametrize("maker", [TRACE, DYNAMO])


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Leave one of the makers."""
    return lambda name: monkeypatch.setattr(fp32, "MAKERS", {name: MAKERS[name]})


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def gap(model: onnx.ModelProto, request: ExportRequest, folder: Path, count: int = 3) -> float:
    """The largest difference of a probability from the model's own."""
    images = pictures(count, seed=5)
    found = EXPORTER.open(save(model, folder / "model.onnx"))(images)
    return float(np.abs(found - eager(request.model)(images)).max())


class Odd(torch.nn.Module):
    """A backbone around a function of the features, float32 [N, 3]."""

    def __init__(self, between: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.between = between
        torch.manual_seed(0)
        self.head = torch.nn.Linear(3, len(CLASSES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.between(x.mean((2, 3))))
        return logits


@EACH_MAKER
def test_either_maker_s_graph_answers_and_tells_nothing(
    maker: str, only: Callable[[str], None], tmp_path: Path
) -> None:
    only(maker)
    request = make_request(Odd(torch.nn.functional.gelu).eval(), "fp32")
    EXPORTER.export(request, tmp_path / "model.onnx")
    data = (tmp_path / "model.onnx").read_bytes()
    for trace in (b"site-packages", b"/" + getpass.getuser().encode() + b"/", b".py", b"stack_trace", b"namespace"):
        assert trace not in data
    assert gap(onnx.load_from_string(data), request, tmp_path) < 1e-5


def test_the_quick_maker_comes_first(resnet: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> onnx.ModelProto:
        raise AssertionError

    monkeypatch.setattr(fp32, "MAKERS", {**MAKERS, DYNAMO: never})
    assert operators(float_model(make_request(resnet, "fp32")))["Conv"] > 5


def test_what_a_trace_cannot_express_the_other_maker_may(tmp_path: Path) -> None:
    request = make_request(Odd(torch.sinc).eval(), "fp32")
    assert gap(float_model(request), request, tmp_path) < 1e-5


def test_a_graph_that_answers_otherwise_is_not_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def off(_: object, images: torch.Tensor, outputs: Sequence[str], opset: int) -> onnx.ModelProto:
        return makers.by_trace(make_request(backbone(1.1), "fp32").model, images, outputs, opset)

    def backbone(factor: float) -> torch.nn.Module:
        return Odd(lambda x: x * factor).eval()

    monkeypatch.setattr(fp32, "MAKERS", {"off": off, TRACE: MAKERS[TRACE]})
    request = make_request(backbone(1.0), "fp32")
    assert gap(float_model(request), request, tmp_path) < 1e-5


def test_if_both_fail_both_reasons_are_given_in_one_line() -> None:
    with pytest.raises(ExportUnsupported) as caught:
        float_model(make_request(BranchesOnPixels().eval(), "fp32"))
    text = str(caught.value)
    assert text.startswith("onnx fp32 failed: ")
    assert f"{TRACE}: its answers in a batch of" in text
    assert f"; {DYNAMO}: " in text
    assert text.endswith("; try --torchscript or another backbone")
    assert "\n" not in text


def test_a_failing_exporter_says_nothing(capfd: pytest.CaptureFixture[str], only: Callable[[str], None]) -> None:
    only(TRACE)
    request = make_request(Odd(lambda x: torch.linalg.matrix_exp(x[:, :, None] * x[:, None]).sum(-1)).eval(), "fp32")
    with pytest.raises(ExportUnsupported, match="matrix_exp"):
        float_model(request)
    assert not "".join(capfd.readouterr())


def test_a_model_without_finite_answers_is_refused() -> None:
    with pytest.raises(ExportUnsupported, match=f"{TRACE}: the model itself gives answers that are not finite"):
        float_model(make_request(Odd(lambda x: x / 0).eval(), "fp32"))


def test_a_chaotic_model_is_judged_by_its_own_control() -> None:
    """What moves by more than the difference under the least change of its input is no fault of the graph's."""
    request = make_request(Odd(lambda x: torch.sin(x * 1e6)).eval(), "fp32")
    predict = eager(request.model)
    nudging = make_request(Odd(lambda x: torch.sin((x + 1e-8) * 1e6)).eval(), "fp32")
    assert not Parity(request).objection(predict)
    assert not Parity(request).objection(eager(nudging.model))
    calm = make_request(Odd(lambda x: x).eval(), "fp32")
    assert "of the logits' scale, limit 0.005" in Parity(calm).objection(predict)


def test_parity_sees_a_batch_that_mixes_and_a_shape_that_is_wrong(resnet: torch.nn.Module) -> None:
    parity = Parity(make_request(resnet, "fp32"))
    predict = eager(make_request(resnet, "fp32").model)
    assert not parity.objection(predict)
    assert "in a batch of 2" in parity.objection(
        lambda images: predict(images)[::-1] if len(images) == 2 else predict(images)
    )
    assert "in a batch of 5" in parity.objection(lambda images: predict(images[:2]))
    assert parity.objection(lambda images: predict(images) * np.float32("nan"))


def test_branches_are_fused_in_a_copy(tmp_path: Path) -> None:
    backbone = make_backbone("repvgg_a0")
    request = make_request(backbone, "fp32")
    before = sum(isinstance(m, torch.nn.Conv2d) for m in backbone.modules())
    graph = float_model(request)
    assert operators(graph)["Conv"] <= before / 2
    assert operators(graph)["BatchNormalization"] == 0
    assert sum(isinstance(m, torch.nn.Conv2d) for m in backbone.modules()) == before
    assert gap(graph, request, tmp_path) < 1e-4


@pytest.mark.parametrize("fault", ["wrong", "raises"])
def test_a_fusion_that_changes_the_answers_is_not_taken(fault: str) -> None:
    class Fusing(torch.nn.Linear):
        def fuse(self) -> torch.nn.Module:
            if fault == "raises":
                raise RuntimeError
            return torch.nn.Linear(3, len(CLASSES))

    backbone = Odd(lambda x: x)
    backbone.head = Fusing(3, len(CLASSES))
    request = make_request(backbone.eval(), "fp32")
    prepared = exportable(request.model, Parity(request))
    assert isinstance(prepared.get_submodule("backbone.head"), Fusing)


def test_shapes_are_constants_and_norms_are_in_their_convolutions(
    vit: torch.nn.Module, resnet: torch.nn.Module
) -> None:
    """What is left of a trace's shape arithmetic is the batch that the class token is repeated for."""
    found = operators(float_model(make_request(vit, "fp32")))
    assert found["Shape"] == 1
    assert found["Constant"] == 0
    assert operators(float_model(make_request(resnet, "fp32")))["BatchNormalization"] == 0


def test_a_shape_that_depends_on_pixels_stays_computed(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["number"], to=TensorProto.INT64),
            helper.make_node("NonZero", ["number"], ["where"]),
            helper.make_node("Shape", ["where"], ["shape"]),
        ],
        "count",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 2, 2, 3])],
        [helper.make_tensor_value_info("shape", TensorProto.INT64, [2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    kept = simplified(model, np.zeros((2, 2, 2, 3), np.uint8))
    predict = EXPORTER.open(save(kept, tmp_path / "model.onnx"))
    assert [predict(np.full((1, 2, 2, 3), value, np.uint8)).tolist() for value in (0, 1)] == [[4, 0], [4, 12]]


def test_a_branch_on_shapes_alone_is_decided() -> None:
    """Quantizers do not look into an If, and lose what only it reads."""
    pixels = helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", 4, 6, 3])
    answer = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 4, 6, 3])
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node("Mul", ["weights", constant], [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3])],
        )
        for name, constant in (("then", "two"), ("else", "three"))
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Shape", ["floats"], ["high"], start=1, end=2),
        helper.make_node("Less", ["high", "five"], ["small"]),
        helper.make_node("If", ["small"], ["scaled"], **branches),
        helper.make_node("Add", ["floats", "scaled"], ["probabilities"]),
    ]
    values = {"weights": np.ones(3, np.float32), "two": np.float32(2), "three": np.float32(3), "five": np.array([5])}
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "branch", [pixels], [answer], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    images = pictures(2, seed=1)[:, :4, :6]
    kept = simplified(model, images)
    assert operators(kept).keys() == {"Cast", "Add"}
    assert {tuple(numpy_helper.to_array(t).ravel()) for t in kept.graph.initializer} == {(2, 2, 2)}


@pytest.mark.parametrize("opset", [13, 16, 20])
def test_the_target_s_opset_is_kept(opset: int, vit: torch.nn.Module, tmp_path: Path) -> None:
    request = make_request(vit, "fp32", target=Target(opset=opset, ir_version=8))
    EXPORTER.export(request, tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    assert [(used.domain, used.version) for used in model.opset_import] == [("", opset)]
    assert model.ir_version <= 8
    assert ("LayerNormalization" in operators(model)) == (opset >= 17)
    assert gap(model, request, tmp_path) < 1e-5


def test_a_later_opset_is_converted_or_refused(
    resnet: torch.nn.Module, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def too_late(model: torch.nn.Module, images: torch.Tensor, outputs: Sequence[str], _: int) -> onnx.ModelProto:
        return makers.by_trace(model, images, outputs, 18)

    monkeypatch.setattr(fp32, "MAKERS", {TRACE: too_late})
    request = make_request(resnet, "fp32", target=Target(opset=15))
    assert gap(float_model(request), request, tmp_path) < 1e-5
    assert {used.version for used in float_model(request).opset_import if used.domain == ""} == {15}


@pytest.fixture
def low_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a protobuf message could hold 10 kB."""
    monkeypatch.setattr(graph, "ONE_FILE_BYTES", 10_000)


@pytest.fixture
def large(low_limit: None, resnet: torch.nn.Module, tmp_path: Path) -> Path:
    file = tmp_path / "model.onnx"
    EXPORTER.export(make_request(resnet, "fp32"), file)
    return file


def test_a_large_model_keeps_its_weights_beside_it(large: Path, resnet: torch.nn.Module) -> None:
    assert sorted(file.name for file in large.parent.iterdir()) == ["model.onnx", "model.onnx.data"]
    assert large.stat().st_size < (large.parent / "model.onnx.data").stat().st_size
    images = pictures(3, seed=5)
    expected = eager(make_request(resnet, "fp32").model)(images)
    assert np.abs(EXPORTER.open(large)(images) - expected).max() < 1e-5
    moved = large.parent.rename(large.parent.with_name("elsewhere"))
    assert np.abs(EXPORTER.open(moved / "model.onnx")(images) - expected).max() < 1e-5


@pytest.mark.parametrize("way", ["renamed", "above", "linked", "twice named", "missing"])
def test_weights_anywhere_else_are_refused(way: str, large: Path) -> None:
    data = large.with_name("model.onnx.data")
    if way == "renamed":
        rewritten(large, "other.bin")
        data.rename(large.with_name("other.bin"))
    elif way == "above":
        rewritten(large, "../model.onnx.data")
    elif way == "linked":
        data.symlink_to(data.rename(large.with_name("other.bin")))
    elif way == "twice named":
        large.with_name("other.bin").hardlink_to(data)
    else:
        data.unlink()
    with pytest.raises(ArtifactInvalid, match=r"model\.onnx\.data") as caught:
        EXPORTER.open(large)
    assert "\n" not in str(caught.value)


def rewritten(file: Path, place: str) -> None:
    """Let a model's weights lie at `place`."""
    model = onnx.load(file, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = place if entry.key == "location" else entry.value
    file.write_bytes(model.SerializeToString())


def test_a_constant_inside_a_node_is_looked_at_too(tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "weights")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="passwords")
    node = helper.make_node("Constant", [], ["probabilities"], value=tensor)
    graph = helper.make_graph([node], "steals", [], [helper.make_tensor_value_info("probabilities", 1, [4])])
    (tmp_path / "passwords").write_bytes(bytes(16))
    onnx.save(helper.make_model(graph, ir_version=9), tmp_path / "model.onnx")
    with pytest.raises(ArtifactInvalid, match="'passwords'"):
        EXPORTER.open(tmp_path / "model.onnx")


def test_only_fp32_may_be_large(monkeypatch: pytest.MonkeyPatch, resnet: torch.nn.Module, tmp_path: Path) -> None:
    monkeypatch.setattr("zoo_exporters.onnx.exporter.ONE_FILE_BYTES", 10_000)
    with pytest.raises(ExportUnsupported, match=r"the weights take .* GiB and the quantizer holds 2; use --fp32"):
        EXPORTER.export(replace(make_request(resnet, "fp32"), precision="int8"), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_unknown_comes_out_beside_the_probabilities(resnet: torch.nn.Module) -> None:
    from zoo.contracts.unknown import Unknown

    request = make_request(resnet, "fp32")
    unknown = Unknown(by="energy", threshold=1.0)
    request = replace(request, unknown=unknown, model=request.preprocess.wrap(resnet, unknown=unknown).eval())
    assert [output.name for output in float_model(request).graph.output] == ["probabilities", "unknown"]


def test_pictures_have_the_size_and_every_brightness() -> None:
    parity = Parity(make_request(Odd(lambda x: x).eval(), "fp32"))
    assert parity.pictures.shape == (8, SIDE, SIDE, 3)
    assert parity.pictures.dtype == np.uint8
    means = parity.pictures.mean((1, 2, 3))
    assert means[0] < 50
    assert means[1:3].min() > 200


def test_a_reason_names_no_temporary_place() -> None:
    said = reason(RuntimeError("Load model from /tmp/zoo-onnx-a1b_2c/observed.onnx failed: Invalid model"))
    assert said == "Load model from observed.onnx failed: Invalid model"
