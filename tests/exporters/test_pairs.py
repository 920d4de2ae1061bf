"""No sum of two neighbouring products passes 16 bits: by the weights of the file itself."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import helper, numpy_helper

from zoo.plugin import Score, Target
from zoo.runtime import session
from zoo.runtime.metadata import metadata
from zoo.runtime.session import EXACT, SESSION_KEY, OnnxPredictor, asked_options
from zoo_exporters.onnx.exporter import OnnxExporter
from zoo_exporters.onnx.int8.accuracy import GIVEN_UP, _with_the_bits_it_needs
from zoo_exporters.onnx.int8.pairs import LARGEST, PAIR, bounded_steps, in_order, worst_pairs
from zoo_exporters.onnx.int8.recipe import Recipe
from zoo_exporters.onnx.int8.workbench import Trial
from zoo_exporters.onnx.saturation import may_saturate

from .conftest import make_request, pictures

if TYPE_CHECKING:
    from pathlib import Path

    import torch

FLOATS = st.floats(-1e3, 1e3, width=32)


@given(arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 12)), elements=FLOATS))
def test_no_pair_saturates_and_no_step_is_coarser_than_seven_bits_need(rows: np.ndarray) -> None:
    steps = bounded_steps(rows)
    rounded = np.round(rows / steps[:, None]).astype(int)
    assert np.abs(rounded).max(initial=0) <= LARGEST
    assert worst_pairs(rounded).max() <= PAIR
    assert 255 * PAIR <= 2**15 - 1
    # All weights of 7 bits bound every pair as well; rounding may take a step that is a hair wider.
    seven_bits = np.maximum(np.abs(rows).max(1) / 64, np.finfo(np.float32).tiny)
    assert (steps <= seven_bits * (1 + 2 / 64)).all()


@given(arrays(np.int64, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=st.integers(-127, 127)))
def test_the_worst_pair_is_what_the_worst_activations_make_of_it(rows: np.ndarray) -> None:
    for row, worst in zip(rows, worst_pairs(rows), strict=True):
        sums = [
            abs(one * row[at] + other * row[at + 1])
            for at in range(0, len(row) - 1, 2)
            for one in (0, 255)
            for other in (0, 255)
        ]
        single = [255 * abs(value) for at in range(0, len(row) - 1, 2) for value in row[at : at + 2]]
        assert 255 * worst == max([*sums, *single], default=0)


def test_convolutions_go_through_the_channels_of_a_place_first() -> None:
    weights = np.arange(2 * 3 * 2 * 2).reshape(2, 3, 2, 2)
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    found = in_order(node, weights)
    assert found is not None
    assert found[0] == 0
    assert found[1][0].tolist() == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]
    depthwise = helper.make_node("Conv", ["x", "w"], ["y"], group=4)
    assert in_order(depthwise, np.zeros((4, 1, 3, 3))) is None
    assert in_order(depthwise, np.zeros((8, 1, 3, 3))) is not None
    matrix, stack = np.arange(6).reshape(2, 3), np.zeros((4, 2, 3))
    plain = helper.make_node("MatMul", ["x", "w"], ["y"])
    turned = helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)
    assert [order[0] for order in (in_order(plain, matrix), in_order(turned, matrix)) if order] == [1, 0]
    assert in_order(plain, stack) is None


@pytest.fixture(scope="module", params=["int8", "dynamic"])
def exported(request: pytest.FixtureRequest, vit: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformer's file, in which every kind of product is."""
    out: Path = tmp_path_factory.mktemp("file") / "model.onnx"
    OnnxExporter().export(make_request(vit, request.param), out)
    return out


def test_a_file_holds_the_bound_and_says_so(exported: Path) -> None:
    assert OnnxExporter().saturates(exported) is False
    assert json.loads(metadata(exported)[SESSION_KEY])[EXACT] == "0"


def test_the_runtime_asks_for_no_exactness_that_it_has(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that saturates is told to be exact, but for files that cannot saturate: they keep their speed."""
    monkeypatch.setattr(session, "saturates", lambda: True)
    options = session.session_options(asked=asked_options(exported))
    assert options.get_session_config_entry(EXACT) == "0"
    assert session.session_options().get_session_config_entry(EXACT) == "1"
    assert np.isfinite(OnnxPredictor(exported)(pictures(2))).all()


def test_one_weight_too_large_is_found(exported: Path, tmp_path: Path) -> None:
    model = onnx.load(exported)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) == 2:
            values = numpy_helper.to_array(tensor).copy()
            values[:2, :2] = 127
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
            break
    assert may_saturate(model) is True


def test_fp32_has_nothing_to_saturate(vit: torch.nn.Module, tmp_path: Path) -> None:
    OnnxExporter().export(make_request(vit, "fp32"), tmp_path / "model.onnx")
    assert OnnxExporter().saturates(tmp_path / "model.onnx") is None
    assert SESSION_KEY not in metadata(tmp_path / "model.onnx")


class Bench:
    """Judges a recipe by a table."""

    def __init__(self, drops: dict[bool, float], *, bounded: bool = True) -> None:
        self.drops, self.bounded, self.asked = drops, bounded, list[bool]()

    def judged(self, trial: Trial) -> Trial:
        self.asked.append(trial.recipe.eight_bits)
        return replace(trial, score=score(self.drops[trial.recipe.eight_bits]))


def score(drop: float) -> Score:
    return Score(images=100, top1=0.9, drop=drop, agreement=0.9, cosine=0.9, cosine_p10=0.9)


@pytest.mark.parametrize(
    ("drops", "chosen", "asked"),
    [
        ({False: 0.1, True: 0.0}, False, []),
        ({False: 0.5, True: 0.5 - GIVEN_UP}, False, [True]),
        ({False: 0.5, True: 0.3}, True, [True]),
        ({False: 3.0, True: 4.0}, False, [True]),
    ],
)
def test_all_bits_are_used_only_where_they_are_worth_it(
    drops: dict[bool, float], chosen: bool, asked: list[bool]
) -> None:
    bench: Any = Bench(drops)
    best = Trial(Recipe(static=frozenset({"a"})), score=score(drops[False]))
    assert _with_the_bits_it_needs(bench, best).recipe.eight_bits is chosen
    assert bench.asked == asked


def test_signed_activations_have_kernels_of_their_own() -> None:
    bench: Any = Bench({False: 3.0, True: 0.0}, bounded=Target(activations="int8").activations == "uint8")
    best = Trial(Recipe(static=frozenset({"a"})), score=score(3.0))
    assert _with_the_bits_it_needs(bench, best) is best
