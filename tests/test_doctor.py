"""`zoo doctor` names what stands in the way, and the mend."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from zoo.catalogue import doctor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Answer

MISMATCH = """
raise RuntimeError("operator torchvision::nms does not exist")
"""


def state(answer: Answer, name: str) -> dict[str, str]:
    (found,) = (check for check in json.loads(answer.stdout) if check["name"] == name)
    return dict(found)


def test_this_machine_is_well(cli: Callable[..., Answer]) -> None:
    answer = cli("doctor", "--json")
    assert answer.code == 0, answer.stdout
    assert {check["state"] for check in json.loads(answer.stdout)} == {"ok"}
    assert "torchvision" in state(answer, "torch and timm")["detail"]


@pytest.mark.slow
def test_a_torchvision_built_for_another_torch_is_recognised(
    cli: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken" / "torchvision").mkdir(parents=True)
    (tmp_path / "broken" / "torchvision" / "__init__.py").write_text(MISMATCH)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    answer = cli("doctor", "--json")
    assert answer.code == 1
    found = state(answer, "torch and timm")
    assert found["state"] == "broken"
    assert "builds differ" in found["detail"]
    assert "both from one index" in found["mend"]
    command = [sys.executable, "-m", "zoo", "train", "test_resnet", "--dataset", "digits", "--no-pretrained"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "torchvision::nms" in done.stderr
    assert "from one index" in done.stderr


def test_two_onnxruntimes_are_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: "1.31.1")
    check = doctor._onnxruntime_once()
    assert check.state == "broken"
    assert "pip uninstall" in check.mend


@pytest.mark.slow
def test_a_home_that_cannot_be_written_is_told(
    cli: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "file" / "below"))
    answer = cli("doctor", "--json")
    assert answer.code == 1
    assert state(answer, "ZOO_HOME")["state"] == "broken"


@pytest.mark.slow
def test_a_broken_plugin_is_named_and_the_rest_is_well(
    cli: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "site" / "bad_plugin-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bad-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[zoo.datasets]\nbad = nowhere_at_all:thing\n")
    worse = tmp_path / "site" / "worse_plugin-1.0.dist-info"
    worse.mkdir()
    (worse / "METADATA").write_text("Metadata-Version: 2.1\nName: worse-plugin\nVersion: 1.0\n")
    (worse / "entry_points.txt").write_text("[zoo.datasets]\nthis is no entry point\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    answer = cli("doctor", "--json")
    assert answer.code == 1
    assert "nowhere_at_all" in state(answer, "dataset bad")["detail"]
    assert state(answer, "dataset digits")["state"] == "ok"
    assert "worse-plugin" in state(answer, "plugins")["detail"]
    assert cli("list", "datasets").code == 0
