"""Corrupted images: the same for the same seed, and what a fragile file loses on them is seen."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from zoo.contracts.preprocess import Preprocess
from zoo.errors import OptionInvalid
from zoo.exporting.corruptions import STRENGTHS, corruptions
from zoo.exporting.export import ExportSpec, export_run
from zoo.exporting.limits import Budget, findings
from zoo.exporting.page.stress import under_stress
from zoo.exporting.stress import LEAST_IMAGES, stress, stress_drop
from zoo.records.answers import eager
from zoo.records.trained import load_trained

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zoo.catalogue import Catalogue
    from zoo.records.run import Run
    from zoo.records.trained import Trained

    from .conftest import Answer


@pytest.fixture(scope="module")
def trained(catalogue: Catalogue, trained_run: Run) -> Trained:
    return load_trained(catalogue, trained_run)


@pytest.fixture
def copied(trained_run: Run, tmp_path: Path) -> Run:
    """A run that a test may add to."""
    shutil.copytree(trained_run.path, tmp_path / "run", ignore=shutil.ignore_patterns("export"))
    return type(trained_run)(tmp_path / "run")


@pytest.mark.parametrize("name", list(corruptions()))
@pytest.mark.parametrize("size", [(32, 32), (96, 64)])
def test_each_spoils_a_picture_more_and_more_and_the_same_each_time(name: str, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (12, 16, 3), np.uint8)
    image = np.kron(coarse, np.ones((12, 12, 1), np.uint8)).astype(np.uint8)
    preprocess = Preprocess(size=size, interpolation="bicubic", crop="center")
    clean = preprocess.prepare(image).astype(float)
    moved = []
    for corrupt in corruptions()[name]:
        found = corrupt(image, preprocess, np.random.default_rng(7))
        assert found.dtype == np.uint8
        assert found.shape == (*size, 3)
        assert np.array_equal(found, corrupt(image, preprocess, np.random.default_rng(7)))
        moved.append(float(np.abs(found - clean).mean()))
    assert len(moved) == STRENGTHS
    if name != "another resize":  # one of them is the preprocessing's own
        assert moved[0] <= moved[-1]
        assert moved[-1] > 2


def test_there_are_fifteen_kinds() -> None:
    assert len(corruptions()) == 15


def test_a_file_that_is_only_right_on_clean_pictures_is_seen(trained: Trained) -> None:
    """As one whose ranges were found on images without bright places: it answers at random where there are such."""
    whole = eager(trained.shipped)

    def fragile(images: np.ndarray) -> np.ndarray:
        answers = whole(images)
        bright = images.mean((1, 2, 3)) > 150
        return np.where(bright[:, None], np.roll(answers, 1, 1), answers)

    found = stress(trained, fragile, trained.data.splits["test"])
    lost = {name: np.subtract(row.reference_top1, row.artifact_top1).sum() for name, row in found.items()}
    assert lost["brightness"] > 0.5
    assert lost["haze"] > 0.2
    assert lost["jpeg"] == lost["pixelate"] == lost["darkness"] == 0
    assert stress_drop(found) > 1
    assert {row.images for row in found.values()} == {LEAST_IMAGES}


def test_a_file_that_answers_as_fp32_loses_nothing(trained: Trained) -> None:
    found = stress(trained, eager(trained.shipped), trained.data.splits["test"])
    assert stress_drop(found) == 0
    assert sum(sum(row.flips) for row in found.values()) == 0
    assert found == stress(trained, eager(trained.shipped), trained.data.splits["test"])


def test_it_is_judged_only_where_a_budget_is_given() -> None:
    numbers: dict[str, Any] = {"drop": 0.0, "batches": {}, "stress_drop": 3.0, "max_probability_difference": 0.0}
    assert findings(numbers, Budget(), "int8") == []
    (found,) = findings(numbers, Budget(max_stress_drop=2.0), "int8")
    assert str(found) == "drop under stress in points 3, limit 2"
    assert findings(numbers, Budget(max_stress_drop=3.0), "int8") == []


def test_an_export_shows_it_and_verify_finds_it_again(cli: Callable[..., Answer], copied: Run) -> None:
    answer = cli("export", copied.path, "--onnx", "--fp32", "--max-stress-drop", "1", "--json")
    found = json.loads(answer.stdout)
    assert found["report"]["stress_drop"] == 0
    assert found["report"]["max_stress_drop"] == 1
    assert len(found["report"]["stress"]) == 15
    again = json.loads(cli("verify", found["artifact"], "--json").stdout)
    assert again["ok"], again["problems"]
    assert again["report"]["stress"] == found["report"]["stress"]


def test_the_page_has_a_cell_for_each(catalogue: Catalogue, copied: Run) -> None:
    artifact, manifest = export_run(catalogue, copied, ExportSpec(format="onnx", stress=True))
    assert "Under stress" in artifact.page.read_text()
    html = "".join(under_stress(manifest.report))
    assert html.count('class="cell"') == 15 * STRENGTHS
    assert under_stress(manifest.report.model_copy(update={"stress": {}, "stress_drop": None})) == []


@pytest.mark.parametrize("points", [-1.0, float("nan"), float("inf")])
def test_a_budget_that_is_none_is_refused(points: float, catalogue: Catalogue, trained_run: Run) -> None:
    with pytest.raises(OptionInvalid, match="--max-stress-drop"):
        export_run(catalogue, trained_run, ExportSpec(format="onnx", max_stress_drop=points))
