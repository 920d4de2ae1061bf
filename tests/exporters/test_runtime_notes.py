"""What a file asks of the runtime: read without the onnx package, obeyed from a short list, never a reason to fail."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import onnx
import pytest
from onnx import TensorProto, helper

from zoo.runtime.metadata import metadata
from zoo.runtime.session import SESSION_KEY, asked_options

if TYPE_CHECKING:
    from pathlib import Path

OPTION = "session.disable_quant_qdq"


def write(folder: Path, notes: dict[str, str]) -> Path:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [300])
    constant = helper.make_tensor("c", TensorProto.FLOAT, [300], [1.0] * 300)
    node = helper.make_node("Add", ["x", "c"], ["y"])
    graph = helper.make_graph(
        [node], "g", [value], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [300])], [constant]
    )
    model = helper.make_model(graph, producer_name="a producer", domain="a domain", doc_string="notes")
    helper.set_model_props(model, notes)
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def asking(folder: Path, asked: object) -> Path:
    return write(folder, {"author": "somebody", SESSION_KEY: json.dumps(asked)})


def test_notes_are_those_that_onnx_reads(tmp_path: Path) -> None:
    notes = {"author": "Zoë", "empty": "", "long": "x" * 5000, SESSION_KEY: "{}"}
    assert metadata(write(tmp_path, notes)) == notes


def test_an_option_of_the_list_is_obeyed_and_no_other(tmp_path: Path) -> None:
    others = {"session.custom_ops_library": "evil.so", "session.intra_op.allow_spinning": "1", OPTION: "1"}
    assert asked_options(asking(tmp_path, others)) == {OPTION: "1"}


@pytest.mark.parametrize("asked", [[OPTION], OPTION, None, 3, {OPTION: "yes"}, {OPTION: 1}, {OPTION: ["1"]}])
def test_what_makes_no_sense_asks_for_nothing(asked: object, tmp_path: Path) -> None:
    assert asked_options(asking(tmp_path, asked)) == {}


def test_notes_that_are_no_json_ask_for_nothing(tmp_path: Path) -> None:
    for text in ("{", "[" * 100_000, "\\ud800", '{"a": NaN}'):
        assert asked_options(write(tmp_path, {SESSION_KEY: text})) == {}


def test_a_file_damaged_anywhere_is_read_to_an_end(tmp_path: Path) -> None:
    whole = asking(tmp_path, {OPTION: "1"}).read_bytes()
    broken = tmp_path / "broken.onnx"
    for place in range(0, len(whole), 7):
        broken.write_bytes(whole[:place])
        assert asked_options(broken) in ({}, {OPTION: "1"})
        broken.write_bytes(whole[:place] + bytes([255 - whole[place]]) + whole[place + 1 :])
        assert asked_options(broken) in ({}, {OPTION: "1"})
    assert asked_options(tmp_path / "missing.onnx") == {}
