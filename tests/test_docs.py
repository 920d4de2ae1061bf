"""The README is executed: its commands, its Python, its plugin, its tree."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from .conftest import ROOT, run_python

if TYPE_CHECKING:
    from pathlib import Path

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def run(command: list[str], cwd: Path, **env: str) -> str:
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_its_commands_work_one_after_another(tmp_path: Path) -> None:
    digit = np.full((8, 8), 0, np.uint8)
    digit[1:7, 3:5] = 255
    Image.fromarray(digit).save(tmp_path / "picture.png")
    here, device = blocks("sh")
    commands = [line for line in here.splitlines() if line and not line.startswith("pip ")]
    assert len(commands) == 4
    for command in commands:
        run([sys.executable, "-m", *command.split()], tmp_path)
    bundle, *there = [line for line in device.splitlines() if not line.startswith("#")]
    run([sys.executable, "-m", *bundle.split()], tmp_path)
    run(["tar", "xzf", "first.tar.gz"], tmp_path)
    assert len(there) == 2
    for command in there:
        run([sys.executable, *command.replace("picture.png", "../picture.png").split()[1:]], *tmp_path.glob("first-*/"))
    (code,) = (b for b in blocks("python") if "onnxruntime" in b)
    done = run_python(f"{code}\nassert abs(probabilities.sum() - 1) < 1e-3, probabilities", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_its_plugin_installs_and_trains(tmp_path: Path) -> None:
    (module,) = (b for b in blocks("python") if "# stripes.py" in b)
    body = module.split("\n\n\n", 1)[1]
    assert len([line for line in body.splitlines() if line.strip()]) <= 15
    package = tmp_path / "package"
    package.mkdir()
    (package / "stripes.py").write_text(module)
    build = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
    build += '[tool.hatch.build.targets.wheel]\ninclude = ["stripes.py"]\n'
    (package / "pyproject.toml").write_text(blocks("toml")[0] + build)
    site = tmp_path / "site"
    install = ["uv", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", str(site)]
    run([sys.executable, "-m", *install, "--python", sys.executable, str(package)], tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    command = ["zoo", "train", "test_resnet", "--no-pretrained", "--dataset", "stripes", "--dataset-option", "count=60"]
    command += ["--image-size", "32", "--epochs", "1", "--name", "n", "--augment", "none"]
    run([sys.executable, "-m", *command], empty, PYTHONPATH=str(site))
    assert '"upright"' in (empty / "runs/n/run.json").read_text()
    assert "stripes" in run([sys.executable, "-m", "zoo", "list", "datasets"], empty, PYTHONPATH=str(site))


@pytest.mark.slow
def test_the_plugins_of_the_docs_hold_their_contracts_in_fifteen_lines(tmp_path: Path) -> None:
    page = (ROOT / "docs/plugins.md").read_text()
    site, empty = tmp_path / "site", tmp_path / "empty"
    info = site / "zoo_plugin_docs-1.0.dist-info"
    info.mkdir(parents=True)
    empty.mkdir()
    sections = []
    for module, group, entry, code in re.findall(
        r"```python\n# (\w+)\.py -> (\S+) (\S+ = \S+)\n(.*?)```", page, re.DOTALL
    ):
        body = [line for line in code.splitlines() if line.strip() and not line.startswith(("import ", "from "))]
        assert len(body) <= 15, module
        (site / f"{module}.py").write_text(code)
        sections.append(f"[{group}]\n{entry.replace(chr(34), '')}\n")
    assert len(sections) == 5
    (info / "entry_points.txt").write_text("".join(sections))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: zoo-plugin-docs\nVersion: 1.0\n")
    (block,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    for command in block.splitlines():
        run([sys.executable, "-m", *command.split()], empty, PYTHONPATH=str(site))
    assert len((empty / "runs/shades/log.csv").read_text().splitlines()) == 2


def test_the_trees_are_made_from_the_docstrings() -> None:
    done = subprocess.run([sys.executable, "docs/tree.py"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_module_has_a_sentence_of_one_line() -> None:
    for file in (ROOT / "zoo").rglob("*.py"):
        doc = ast.get_docstring(ast.parse(file.read_text())) or ""
        assert doc.partition("\n")[0].endswith((".", ":", "?")), file


def test_the_table_of_commands_is_complete() -> None:
    from zoo.cli.app import app

    for command in app.registered_commands:
        assert f"`zoo {command.name}" in README or f"`zoo list`, `zoo {command.name}`" in README


def test_no_address_of_a_registry_stands_in_the_lock() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    assert all("==" in line for line in lock.splitlines() if line and not line.startswith((" ", "#")))
