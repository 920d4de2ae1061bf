"""The shell completes names and plugins' options, and imports no plugin for it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.isolation.bad_plugins import GOOD_DATASET, Bad, install

if TYPE_CHECKING:
    from pathlib import Path

CANARY = "from pathlib import Path\nPath(__file__).with_suffix('.imported').touch()\n"
WITH_OPTION = GOOD_DATASET.replace("plugin(root)", "plugin(root, *, colour: str = 'red', count: int = 40)")
PROGRAM = """
import sys
from zoo.cli.app import app
import atexit
PLUGINS = ("zoo_plugins", "zoo_exporters", "noticed", "torch", "timm", "albumentations", "numpy")
atexit.register(lambda: print("loaded:", [n for n in PLUGINS if n in sys.modules], file=sys.stderr))
app(prog_name="zoo")
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    install(folder, Bad("noticed", CANARY + WITH_OPTION, ""))
    return folder


def run(site: Path, folder: Path, arguments: list[str], **env: str) -> str:
    own = {**os.environ, "PYTHONPATH": str(site), "ZOO_HOME": str(folder / "home"), **env}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], cwd=folder, env=own, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "loaded: []", done.stderr
    assert not list(site.glob("*.imported"))
    return done.stdout


def complete(site: Path, folder: Path, words: str) -> list[str]:
    count = str(len(words.split(" ")) - 1)
    found = run(site, folder, [], _ZOO_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=count)
    return found.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("zoo pl", ["plugin"]),
        ("zoo plugin ", ["list", "check", "new"]),
        ("zoo train mob", ["mobile"]),
        ("zoo train --dataset not", ["noticed"]),
        ("zoo train tiny --dataset noticed --dataset-option ", ["colour=", "count="]),
        ("zoo train tiny --dataset noticed --dataset-option col", ["colour="]),
        ("zoo train tiny --dataset nowhere --dataset-option ", []),
        ("zoo train tiny --augment st", ["standard"]),
        ("zoo train tiny --augment light --augment-option ", ["strength="]),
        ("zoo train --recipe fine", ["finetune"]),
        ("zoo export --format on", ["onnx"]),
        ("zoo export --format onnx --export-option cal", ["calibration_method="]),
        ("zoo export --target raspberry-pi-5", ["raspberry-pi-5"]),
        ("zoo show dataset no", ["noticed"]),
        ("zoo show exporter torch", ["torchscript"]),
    ],
)
def test_what_is_offered(words: str, offered: list[str], site: Path, tmp_path: Path) -> None:
    assert complete(site, tmp_path, words) == offered


@pytest.mark.parametrize("arguments", [["plugin", "list"], ["plugin", "list", "--json"], ["list", "datasets"]])
def test_listing_imports_no_plugin(arguments: list[str], site: Path, tmp_path: Path) -> None:
    assert "noticed" in run(site, tmp_path, arguments)
