"""`zoo bundle --ort`: the model in onnxruntime's own format, and the operators that a small build of it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest

from zoo.contracts.target import Target
from zoo.deploy.bundle import minimal
from zoo.deploy.bundle.make import BundleSpec, bundle_artifact
from zoo.errors import OptionInvalid, ProofFailed
from zoo.exporting.export import export_run
from zoo.exporting.job import ExportSpec
from zoo.runtime.golden import limit_of

from ..bundles import unpacked_bundle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Answer
    from zoo.catalogue import Catalogue
    from zoo.records.artifact import Artifact
    from zoo.records.run import Run


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.slow) for name in ("fp32", "int8")])
def artifact(
    request: pytest.FixtureRequest, catalogue: Catalogue, trained_run: Run, onnx_artifact: Artifact
) -> Artifact:
    if request.param == "fp32":
        return onnx_artifact
    spec = ExportSpec(format="onnx", precision="int8", options={"search": "quick"})
    return export_run(catalogue, trained_run, spec)[0]


def test_the_file_answers_as_the_proof_did_and_its_operators_are_listed(artifact: Artifact, tmp_path: Path) -> None:
    folder = unpacked_bundle(artifact, tmp_path, spec=BundleSpec(ort=True, out=tmp_path / "b.tar.gz"))
    session = onnxruntime.InferenceSession(folder / minimal.MODEL, providers=["CPUExecutionProvider"])
    golden, manifest = artifact.golden(), artifact.manifest()
    (found,) = session.run(["probabilities"], {"image": golden.images})
    assert np.abs(found - golden.artifact).max() <= limit_of(manifest.precision)
    told = (folder / minimal.OPERATORS).read_text()
    assert "Softmax" in told
    assert ("QLinearConv" in told) is (manifest.precision == "int8")
    assert "nchwc" not in told
    assert str(tmp_path.parent) not in told
    assert "include_ops_by_config" in (folder / "README.md").read_text()
    assert minimal.MODEL in (folder / "SHA256SUMS").read_text()


def test_a_file_that_answers_otherwise_is_refused(
    onnx_artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(minimal, "replay", lambda *_: 0.5)
    with pytest.raises(ProofFailed, match=r"model\.ort of .* moves golden answers by 0\.5, limit 0\.0001"):
        bundle_artifact(onnx_artifact, Target(), BundleSpec(ort=True, out=tmp_path / "x.tar.gz"))
    assert not (tmp_path / "x.tar.gz").exists()


def test_what_onnxruntime_cannot_write_is_one_line(
    cli: Callable[..., Answer], onnx_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("flatbuffers hold 2 GB at most\nmore")

    monkeypatch.setattr(minimal, "write_ort", fail)
    answer = cli("bundle", onnx_artifact.path, "--ort", "--out", "x.tar.gz")
    assert answer.code == OptionInvalid.exit_code
    assert answer.error.endswith("(flatbuffers hold 2 GB at most); leave --ort out")
