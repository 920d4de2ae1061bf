"""Recipes learn what is said of them: digits from scratch, and shapes better than plain Adam does; minutes each."""

from __future__ import annotations

import runpy
from typing import Any

import pytest

from ..conftest import ROOT

FIXED = {"device": "cpu", "precision": "fp32", "layout": "nhwc"}
"""So that a machine's choice has no say."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def bench() -> dict[str, Any]:
    """What prints the same comparison, with more seeds and sides."""
    return runpy.run_path(str(ROOT / "bench" / "recipes.py"))


def test_digits_from_scratch(bench: dict[str, Any]) -> None:
    assert bench["mean"](bench["on_digits"](range(1), **FIXED)) >= 0.985


@pytest.mark.proof
def test_digits_from_scratch_by_five_seeds(bench: dict[str, Any]) -> None:
    results = bench["on_digits"](range(5), **FIXED)
    assert bench["mean"](results) >= 0.99


@pytest.mark.proof
def test_a_recipe_beats_plain_adam_on_shapes(bench: dict[str, Any]) -> None:
    recipe, plain = bench["RECIPE"], "plain Adam"
    found = bench["on_shapes"](range(2), (recipe, plain), **FIXED)
    assert bench["mean"](found[recipe]) > bench["mean"](found[plain])
    assert all(one.val > other.val for one, other in zip(found[recipe], found[plain], strict=True))
