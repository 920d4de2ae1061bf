"""What many tests share: a home of their own, pictures, a command runner, one trained run and its artifacts."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zoo.catalogue import Catalogue
    from zoo.records.artifact import Artifact
    from zoo.records.run import Run

ROOT = Path(__file__).resolve().parent.parent

# Small models gain nothing from a second thread, and two that wait for each other on a busy machine crawl.
os.environ["OMP_NUM_THREADS"] = "1"


LONGEST = (
    "tests/train/test_resume.py",
    "tests/test_proof.py",
    "tests/plugins/test_contracts.py",
    "tests/exporters/test_int8.py",
    "tests/exporters/test_onnx.py",
    "tests/train/test_qat.py",
    "tests/train/test_multi_label.py",
    "tests/isolation/test_bad_plugins.py",
    "tests/test_path.py",
    "tests/test_calibrated.py",
    "tests/test_resize_in_graph.py",
    "tests/authoring/test_check.py",
    "tests/test_fail_fast.py",
)
"""Files that two processes should not leave for the end: one would work on while the other has nothing to do."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; within a file, and among the others, the order stays."""
    rank = {ROOT / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    code: int
    stdout: str
    stderr: str

    @property
    def error(self) -> str:
        """The one line of an error; the test fails if there is another, or a traceback."""
        lines = [line for line in self.stderr.splitlines() if line.startswith("zoo: ")]
        assert len(lines) == 1, self.stderr
        assert "Traceback" not in self.stderr
        return lines[0]


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the user's own cache and runs out of every test."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_HOME", str(folder))
        patch.delenv("ZOO_RUNS", raising=False)
        patch.delenv("ZOO_REGISTRY", raising=False)
        yield folder


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Answer]:
    """Run a command in this process, in an empty folder."""
    from zoo.cli.app import app

    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Answer:
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        return Answer(result.exit_code, result.stdout, result.stderr)

    return call


def run_python(code: str, *, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True
    )


def make_pictures(folder: Path, *, classes: int = 3, each: int = 12, size: tuple[int, int] = (80, 60)) -> Path:
    """Write JPEG files that a small network can tell apart: each class has its own stripes and colour."""
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    for label in range(classes):
        (folder / f"class{label}").mkdir(parents=True)
        for number in range(each):
            stripes = np.sin((x * (label + 1) + y * (classes - label)) / 6 + rng.uniform(0, 6))
            colour = np.roll([90, 30, -40], label)
            pixels = 120 + 50 * stripes[..., None] + colour + rng.normal(0, 12, (*stripes.shape, 3))
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            image.save(folder / f"class{label}" / f"{number:03}.jpg", quality=90)
    return folder


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of JPEG files, one sub-folder a class; not to be changed."""
    return make_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    from zoo.catalogue import Catalogue

    return Catalogue.read()


def train_digits(catalogue: Catalogue, path: Path, **options: Any) -> Run:
    """Train the tiny model on digits for a moment."""
    from zoo.records.layers import resolve_options
    from zoo.training.session import start_run

    given = {"model": "tiny", "dataset": "digits", "epochs": 3, "lr": 3e-3, "ema_decay": 0.9, **options}
    return start_run(catalogue, resolve_options(catalogue, given, None, None), path)


@pytest.fixture(scope="session")
def trained_run(catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of the tiny model on digits; not to be changed."""
    return train_digits(catalogue, tmp_path_factory.mktemp("runs") / "digits")


@pytest.fixture(scope="session")
def onnx_artifact(catalogue: Catalogue, trained_run: Run) -> Artifact:
    """Its accepted fp32 ONNX artifact; not to be changed."""
    from zoo.exporting.export import ExportSpec, export_run

    artifact, manifest = export_run(catalogue, trained_run, ExportSpec(format="onnx"))
    assert manifest.report.accepted, manifest.report.reasons
    return artifact
