"""What outsiders rely on changes only on purpose; what goes warns first, and goes when it said."""

from __future__ import annotations

import ast
import difflib

import pytest
from packaging.version import Version

from tests.stability.api import lines
from zoo import __version__
from zoo.plugin import deprecated

from ..conftest import ROOT

SNAPSHOT = ROOT / "tests/stability/api.txt"


def test_the_public_surface_is_the_pinned_one() -> None:
    pinned, found = SNAPSHOT.read_text().splitlines(), list(lines())
    difference = list(difflib.unified_diff(pinned, found, "pinned", "found", lineterm="", n=0))
    assert not difference, "\n".join(
        [*difference, "if that is meant: python -m tests.stability.api > tests/stability/api.txt, and the CHANGELOG"]
    )


def test_the_snapshot_sees_the_whole_surface() -> None:
    text = SNAPSHOT.read_text()
    for name in ("zoo.plugin.Dataset.classes", "zoo train: --dataset", "exporter onnx option calibration_method"):
        assert name in text
    assert len(text.splitlines()) > 250


def test_a_deprecation_names_the_version_and_points_at_the_caller() -> None:
    def old_name() -> None:
        deprecated("old_name()", instead="new_name()", goes_in="9.0")

    with pytest.warns(
        DeprecationWarning, match=r"old_name\(\) is deprecated and goes in version 9.0; write new"
    ) as seen:
        old_name()
    assert seen[0].filename == __file__


def test_nothing_has_outlived_its_deprecation() -> None:
    for file in (ROOT / "zoo").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "deprecated":
                (goes_in,) = [ast.literal_eval(k.value) for k in node.keywords if k.arg == "goes_in"]
                assert Version(goes_in) > Version(__version__), f"{file}: remove what went in {goes_in}"
