"""What outsiders do, from an empty folder and a venv that holds zoo's wheel: write plugins, install them, use them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from .conftest import ROOT
from .test_wheel import install, make_venv

TRAIN = ["--no-pretrained", "--epochs", "2", "--lr", "3e-3", "--set", "ema_decay=0", "--set", "threads=1"]
KINDS = ("dataset", "augmentation", "backbone", "exporter", "tracker")


@dataclass(frozen=True)
class Outsider:
    """A venv and an empty folder."""

    python: Path
    folder: Path

    def call(self, *arguments: object, code: int = 0, cwd: Path | None = None) -> str:
        """Run a program of the venv; return what it said on stdout."""
        program, *rest = map(str, arguments)
        env = {**os.environ, "ZOO_HOME": str(self.folder.parent / "home")}
        command = [str(self.python.parent / program), *rest]
        done = subprocess.run(command, cwd=cwd or self.folder, env=env, capture_output=True, text=True)
        assert done.returncode == code, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def json(self, *arguments: object) -> Any:
        """Run zoo and read its JSON."""
        return json.loads(self.call("zoo", *arguments, "--json"))

    def install(self, package: Path) -> None:
        """Build a package's wheel and install it."""
        install(self.python, "--no-deps", "--no-build-isolation", str(package))


@pytest.fixture(scope="module")
def outsider(tmp_path_factory: pytest.TempPathFactory) -> Outsider:
    folder = tmp_path_factory.mktemp("outsider")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    python = make_venv(folder / "venv", share=True)
    install(python, "--no-deps", str(wheel))
    # Programs that a wheel brings are not shared with the packages.
    (python.parent / "pytest").symlink_to(Path(sys.executable).parent / "pytest")
    (folder / "empty").mkdir()
    return Outsider(python, folder / "empty")


def picture(folder: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "picture.png")
    return folder / "picture.png"


@pytest.mark.slow
def test_openvino_is_exported_proven_benched_and_used_like_onnx(outsider: Outsider) -> None:
    outsider.install(ROOT / "plugins/zoo-plugin-openvino")
    # Long enough that int8 moves no image between two classes.
    train = ["train", "tiny", "--dataset", "digits", "--epochs", "10", "--lr", "3e-3", "--set", "ema_decay=0.9"]
    outsider.json(*train, "--name", "ov")
    made = []
    for precision in ("fp32", "fp16", "int8"):
        speed = ["--min-speedup", "0"]  # a busy machine must not decide
        made.append(outsider.json("export", "ov", "--format", "openvino", f"--{precision}", *speed))
    fp32, fp16, int8 = (artifact["report"] for artifact in made)
    assert [(a["format"], a["precision"]) for a in made] == [("openvino", p) for p in ("fp32", "fp16", "int8")]
    assert all(report["accepted"] for report in (fp32, fp16, int8))
    assert fp32["flips"] == 0
    assert fp16["size_bytes"] < 0.6 * fp32["size_bytes"]
    assert int8["size_bytes"] < 0.4 * fp32["size_bytes"]
    assert {"artifact", "fp32", "onnxruntime_fp32", "eager_fp32"} == int8["latency_ms"].keys()
    assert outsider.json("verify", made[2]["artifact"])["ok"]
    timed = outsider.json("bench", *(a["artifact"] for a in made), "--seconds", "0.5")["artifacts"]
    assert len(timed) == 3
    assert all(t["p50_ms"] > 0 for t in timed)
    assert outsider.json("predict", picture(outsider.folder), "--using", made[2]["artifact"])
    assert outsider.json("eval", made[2]["artifact"])["top1"] > 0.9


@pytest.mark.slow
def test_textures_brings_a_dataset_an_augmentation_and_a_backbone(outsider: Outsider) -> None:
    outsider.install(ROOT / "plugins/zoo-plugin-textures")
    command = ["train", "texture-net", "--dataset", "textures", "--augment", "turn-and-flip", "--name", "tex", *TRAIN]
    run = outsider.json(*command, "--epochs", "5", "--dataset-option", "count=60")
    assert run["classes"] == ["brick", "fur", "grass", "gravel", "retina", "wood"]
    assert run["metrics"]["val"]["top1"] > 0.6
    assert run["plugins"] == dict.fromkeys(["backbone", "dataset", "augmentation"], "zoo-plugin-textures")
    assert run["licenses"] == {"code": "Apache-2.0", "weights": "", "data": "CC0-1.0"}
    artifact = outsider.json("export", "tex", "--onnx", "--max-drop", "100")
    assert artifact["licenses"] == run["licenses"]
    states = {p["name"]: p["state"] for p in outsider.json("plugin", "list", "--check")}
    assert {states[name] for name in ("textures", "turn-and-flip", "texture-net")} == {"ok"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["openvino", "textures"])
def test_their_own_tests_pass(outsider: Outsider, name: str, tmp_path: Path) -> None:
    outsider.install(ROOT / f"plugins/zoo-plugin-{name}")
    package = shutil.copytree(ROOT / f"plugins/zoo-plugin-{name}", tmp_path / name)
    shutil.rmtree(package / "src")  # what is installed is tested
    outsider.call("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=package)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_new_plugin_of_any_kind_works_with_no_edit(outsider: Outsider, kind: str) -> None:
    name = f"my-{kind}"
    outsider.call("zoo", "plugin", "new", name, "--kind", kind)
    package = outsider.folder / f"zoo-plugin-{name}"
    outsider.install(package)
    outsider.call("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=package)
    assert {p["state"] for p in outsider.json("plugin", "list") if p["name"] == name} == {"ok"}
    verdicts = outsider.json("plugin", "check", name)
    assert len(verdicts) > 10
    assert {v["verdict"] for v in verdicts} == {"kept"}
    given = {"dataset": "digits", "augment": "none", "model": "test_resnet"}
    uses = {"dataset": "dataset", "augmentation": "augment", "backbone": "model"}
    given |= {uses[kind]: name} if kind in uses else {}
    command = ["train", given.pop("model"), "--image-size", "32", "--name", f"run-{kind}", *TRAIN]
    command += [word for flag, value in given.items() for word in (f"--{flag}", value)]
    outsider.json(*command, *(["--tracker", name] if kind == "tracker" else []))
    export = ["--format", name] if kind == "exporter" else ["--onnx"]
    artifact = outsider.json("export", f"run-{kind}", *export, "--max-drop", "100")
    assert artifact["report"]["accepted"]
    assert outsider.json("verify", artifact["artifact"])["ok"]
    if kind == "tracker":
        kept = (outsider.folder / f"runs/run-{kind}/tracker.csv").read_text()
        assert "epoch" in kept
        assert "artifact" in kept
