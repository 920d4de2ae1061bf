"""A run and an artifact of each schema version, kept forever: they load, and they answer as they did."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from zoo.evaluation.metrics import classification_metrics
from zoo.records.answers import eager, probabilities
from zoo.records.artifact import list_artifacts
from zoo.records.manifest import SCHEMA as ARTIFACT_SCHEMA
from zoo.records.record import SCHEMA as RUN_SCHEMA
from zoo.records.run import Run
from zoo.records.trained import load_trained

from ..conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zoo.catalogue import Catalogue

    from ..conftest import Answer

STORED = ROOT / "tests/stability/stored"
RUNS = sorted(path for path in STORED.iterdir() if path.is_dir())


@pytest.fixture(params=RUNS, ids=lambda path: path.name)
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """A copy: nothing may change what is kept."""
    return Run(shutil.copytree(request.param, tmp_path / "runs" / request.param.name))


def test_there_is_one_of_each_schema() -> None:
    records = [json.loads((path / "run.json").read_text()) for path in RUNS]
    manifests = [json.loads(file.read_text()) for file in STORED.rglob("artifact.json")]
    assert {record["schema"] for record in records} == set(range(1, RUN_SCHEMA + 1))
    assert {manifest["schema"] for manifest in manifests} == set(range(1, ARTIFACT_SCHEMA + 1))


def test_a_run_gives_the_accuracy_that_it_recorded(stored: Run, catalogue: Catalogue) -> None:
    trained = load_trained(catalogue, stored)
    split = trained.data.splits["val"]
    scores = probabilities(eager(trained.shipped), split, trained.preprocess, workers=0)
    found = classification_metrics(split.labels, scores, trained.record.classes)
    recorded = trained.record.metrics["val"]
    assert found["top1"] == pytest.approx(recorded["top1"], abs=1 / len(split))
    assert found["loss"] == pytest.approx(recorded["loss"], abs=1e-3)


def test_an_artifact_gives_its_golden_answers(stored: Run, catalogue: Catalogue) -> None:
    found = list_artifacts(stored.export_folder)
    assert {a.path.name for a in found} == {"onnx-fp32", "onnx-int8"}
    for one in found:
        golden = one.golden()
        answers = one.open(catalogue)(golden.images)
        limit = 1e-4 if one.path.name.endswith("fp32") else 5e-2
        assert np.abs(answers - golden.artifact).max() <= limit


def test_every_command_takes_them(stored: Run, cli: Callable[..., Answer]) -> None:
    name = stored.path.name
    for command in (
        ["show", "run", name],
        ["show", "artifact", f"{name}/onnx-fp32"],
        ["eval", name],
        ["verify", f"{name}/onnx-fp32", "--golden"],
        ["bench", f"{name}/onnx-fp32", "--seconds", "0.1"],
        ["export", name, "--onnx", "--max-drop", "100"],
        ["list", "runs"],
    ):
        answer = cli(*command, "--json")
        assert answer.code == 0, (command, answer.stderr)
