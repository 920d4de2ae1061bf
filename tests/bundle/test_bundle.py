"""`zoo bundle`: what is inside, that it runs without zoo, and that nothing changed goes through."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from zoo.contracts.target import Target
from zoo.deploy.bundle import browser
from zoo.deploy.bundle.make import BundleSpec, bundle_artifact, digests
from zoo.deploy.bundle.papers import versions_of_proof
from zoo.deploy.bundle.sbom import sbom
from zoo.deploy.bundle.verify import verify_bundle
from zoo.errors import ArtifactInvalid, ProofFailed
from zoo.exporting.predict import predict_images
from zoo.runtime.sums import sums_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Answer
    from zoo.catalogue import Catalogue
    from zoo.deploy.bundle.make import Bundle
    from zoo.records.artifact import Artifact

NO_ZOO = """
import sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        assert name.split(".")[0] not in ("zoo", "torch", "timm", "pydantic", "onnx", "cv2"), f"it imports {name}"
sys.meta_path.insert(0, Nothing())
import runpy
runpy.run_module("zoo_runtime", run_name="__main__", alter_sys=True)
"""


def runtime(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the bundle's own runtime, where an import of zoo or torch is an error."""
    command = [sys.executable, "-c", NO_ZOO, *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (50, 70, 3), np.uint8)).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def test_it_holds_what_a_device_needs(unpacked: Path, made: Bundle) -> None:
    names = {str(p.relative_to(unpacked)) for p in unpacked.rglob("*") if p.is_file()}
    assert names == set(made.files)
    wanted = {"README.md", "LICENSE", "LICENSES.md", "SHA256SUMS", "artifact.json", "golden.npz", "labels.txt"}
    assert names >= wanted | {"model.onnx", "requirements.txt", "sbom.cdx.json", "zoo_runtime/model.py"}
    assert (unpacked / "labels.txt").read_text().split() == list("0123456789")
    assert [line.split(">=")[0] for line in (unpacked / "requirements.txt").read_text().splitlines()] == [
        "numpy",
        "onnxruntime",
        "Pillow",
    ]
    assert "Apache License" in (unpacked / "LICENSE").read_text()
    readme = (unpacked / "README.md").read_text()
    assert (
        f"| top-1 | {100 * json.loads((unpacked / 'artifact.json').read_text())['report']['artifact_top1']:.2f} %"
        in readme
    )
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=unpacked, check=True)


def test_the_same_artifact_gives_the_same_bytes(onnx_artifact: Artifact, made: Bundle, tmp_path: Path) -> None:
    again = bundle_artifact(onnx_artifact, Target(), BundleSpec(out=tmp_path / "again.tar.gz"))
    assert (again.path.read_bytes(), again.sha256) == (made.path.read_bytes(), made.sha256)


def test_it_runs_without_zoo(unpacked: Path, catalogue: Catalogue, onnx_artifact: Artifact, picture: Path) -> None:
    done = runtime(unpacked, "selftest")
    assert (done.returncode, done.stderr) == (0, "")
    assert "16 of 16 golden images keep their class, largest difference 0 " in done.stdout
    done = runtime(unpacked, "predict", picture, "--top", 3, "--json")
    (wanted,) = predict_images(catalogue, onnx_artifact, [picture], top=3)
    assert json.loads(done.stdout)["predictions"] == [wanted.to_json()]


def test_figures_go_back_into_the_manifest(unpacked: Path) -> None:
    done = runtime(unpacked, "bench", "--seconds", 0.1, "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    (written,) = json.loads((unpacked / "artifact.json").read_text())["measured"]
    assert written == figures
    assert 0 < figures["p50"] <= figures["p95"] <= figures["p99"]
    assert figures["cold_start"] > figures["p50"]
    assert figures["peak_memory_mb"] > 10
    assert figures["selftest"]["ok"]
    # The list of checksums was renewed with it.
    assert runtime(unpacked, "selftest").returncode == 0
    assert runtime(unpacked, "bench", "--seconds", 0, "--no-write").returncode == 0
    assert len(json.loads((unpacked / "artifact.json").read_text())["measured"]) == 1


@pytest.mark.parametrize(
    "arguments", [["predict", "missing.jpg"], ["watch", "nowhere"], ["selftest", "--bundle", "no"]]
)
def test_what_is_wrong_is_one_line(unpacked: Path, arguments: list[str]) -> None:
    done = runtime(unpacked, *arguments)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_a_broken_image_does_not_cost_the_others(unpacked: Path, picture: Path) -> None:
    (unpacked / "broken.jpg").write_bytes(b"\xff\xd8broken")
    done = runtime(unpacked, "predict", "broken.jpg", picture)
    assert done.returncode == 1
    assert done.stdout.count("picture.png: ") == 1
    assert "broken.jpg" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_changed_bit_is_caught_before_the_model_is_parsed(unpacked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """2,000 places of the unpacked files; the archive has a test of its own."""
    monkeypatch.setattr("zoo.runtime.session.OnnxPredictor.__init__", parsed)
    rng = random.Random(2)
    # What is never parsed need not be a model, and a small one is hashed sooner.
    (unpacked / "model.onnx").write_bytes(rng.randbytes(3000))
    renew_sums(unpacked)
    files = {path: path.read_bytes() for path in sorted(unpacked.rglob("*")) if path.is_file()}
    for _ in range(2000):
        ((path, content),) = rng.choices(list(files.items()), [len(content) ** 0.5 for content in files.values()])
        path.write_bytes(flipped(content, rng.randrange(8 * len(content))))
        with pytest.raises(ArtifactInvalid, match="copy the bundle once more"):
            verify_bundle(unpacked)
        path.write_bytes(content)
    with pytest.raises(ArtifactInvalid, match="the model was parsed"):
        verify_bundle(unpacked)


def parsed(*_: Any, **__: Any) -> None:
    raise AssertionError("the model was parsed")


def renew_sums(folder: Path) -> None:
    """Make all checksums right again."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "SHA256SUMS"]
    text = sums_text(digests({str(path.relative_to(folder)): path.read_bytes() for path in files}))
    (folder / "SHA256SUMS").write_text(text)


@pytest.mark.parametrize("name", ["model.onnx", "zoo_runtime/pixels.py", "SHA256SUMS", "golden.npz"])
def test_a_missing_file_is_told(unpacked: Path, name: str) -> None:
    (unpacked / name).unlink()
    done = subprocess.run(
        [sys.executable, "-m", "zoo.runtime", "selftest", "--bundle", unpacked], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert name in done.stderr


def test_a_link_in_the_place_of_a_file_is_refused(unpacked: Path, tmp_path: Path) -> None:
    shutil.move(unpacked / "model.onnx", tmp_path / "elsewhere.onnx")
    (unpacked / "model.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(ArtifactInvalid, match=r"model\.onnx"):
        verify_bundle(unpacked)


@pytest.mark.parametrize(
    ("target", "why"),
    [
        (Target(name="old", opset=11), "takes opset 11 at most, the file has 18"),
        (Target(name="old", ir_version=4), "takes IR 4 at most"),
        (Target(name="one", precisions=("int8",)), "runs int8, not fp32"),
        (Target(name="tiny", memory_mb=8), "has 8 MB of memory, and one image takes"),
    ],
)
def test_a_target_that_cannot_take_it_is_told(
    onnx_artifact: Artifact, target: Target, why: str, tmp_path: Path
) -> None:
    with pytest.raises(ProofFailed, match=re.escape(why)):
        bundle_artifact(onnx_artifact, target, BundleSpec(out=tmp_path / "x.tar.gz"))
    assert not (tmp_path / "x.tar.gz").exists()


def test_through_the_commands(cli: Callable[..., Answer], onnx_artifact: Artifact, tmp_path: Path) -> None:
    done = cli("bundle", onnx_artifact.path, "--target", "raspberry-pi-5", "--out", "a.tar.gz", "--json")
    assert done.code == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["target"], said["signed"]) == ("raspberry-pi-5", False)
    assert said["size_bytes"] == (tmp_path / "a.tar.gz").stat().st_size
    done = cli("verify", "a.tar.gz")
    assert done.code == 0, done.stderr
    assert "signature: none" in done.stdout
    (tmp_path / "a.tar.gz").write_bytes(flipped((tmp_path / "a.tar.gz").read_bytes(), 4321))
    done = cli("verify", "a.tar.gz", "--json")
    assert done.code == 1
    assert "copy it once more" in done.error


def test_other_answers_fail_the_proof(unpacked: Path, cli: Callable[..., Answer]) -> None:
    """Golden vectors of another model, with all checksums right."""
    with np.load(unpacked / "golden.npz") as arrays:
        values = {name: arrays[name] for name in arrays}
    values["artifact"] = np.random.default_rng(0).permutation(values["artifact"])
    np.savez_compressed(unpacked / "golden.npz", **values)
    renew_sums(unpacked)
    done = cli("verify", unpacked)
    assert done.code == 3
    assert "NOT the answers of the proof" in done.error
    assert runtime(unpacked, "selftest").returncode == 3


def test_a_refused_artifact_is_not_bundled(onnx_artifact: Artifact, tmp_path: Path, cli: Callable[..., Answer]) -> None:
    from zoo.records.artifact import REJECTED

    shutil.copytree(onnx_artifact.path, tmp_path / f"onnx-fp32{REJECTED}")
    done = cli("bundle", tmp_path / f"onnx-fp32{REJECTED}")
    assert done.code == 1
    assert "refused by its proof" in done.error


@pytest.mark.parametrize("target", ["host", "browser"])
def test_its_bill_of_materials_is_valid_cyclonedx(
    onnx_artifact: Artifact, made: Bundle, unpacked: Path, target: str
) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    document = (unpacked / "sbom.cdx.json").read_text()
    if target == "browser":
        manifest = onnx_artifact.manifest()
        packages = {**versions_of_proof(manifest), browser.RUNTIME: browser.VERSION}
        document = sbom(manifest, made.folder, packages, dict.fromkeys([manifest.model_file, "index.html"], "0" * 64))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(document) is None
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(document.replace('"library"', '"liberry"')) is not None
