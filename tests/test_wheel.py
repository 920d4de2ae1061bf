"""The wheel, installed in a venv of its own outside the repository, is the whole product."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from .conftest import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (found,) = folder.glob("*.whl")
    return found


def make_venv(folder: Path, *, share: bool) -> Path:
    """Make a venv; `share` lends it the heavy packages of this one, but not our own editable install."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    if share:
        import torch

        heavy = Path(torch.__file__).parent.parent
        code = "import sysconfig; print(sysconfig.get_path('purelib'))"
        own = Path(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip())
        (own / "heavy.pth").write_text(f"{heavy}\n")
    return python


def install(python: Path, *what: str) -> None:
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(python), *what]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def use_as_a_stranger(python: Path, folder: Path) -> None:
    """List, train, export and predict in an empty folder."""
    zoo = python.parent / "zoo"
    env = {**os.environ, "ZOO_HOME": str(folder / "home")}

    def call(*arguments: str) -> str:
        done = subprocess.run([zoo, *arguments], cwd=folder, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    code = "import zoo, zoo_plugins; print(zoo.__file__)"
    where = subprocess.run([python, "-c", code], cwd=folder, capture_output=True, text=True, check=True).stdout
    assert where.startswith(str(python.parent.parent))
    models = call("list", "models").splitlines()
    assert any(line.startswith("tiny ") for line in models)
    assert "convnext_atto" in models
    run = json.loads(
        call(
            "train", "tiny", "--dataset", "digits", "--epochs", "3", "--lr", "3e-3", "--set", "ema_decay=0.9", "--json"
        )
    )
    assert run["metrics"]["test"]["top1"] > 0.8
    artifact = json.loads(call("export", "--onnx", "--json"))
    assert artifact["report"]["accepted"]
    assert Path(folder, artifact["artifact"], "model.onnx").is_file()


def test_its_top_level_names_are_exactly_three(wheel: Path) -> None:
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"zoo", "zoo_exporters", "zoo_plugins"}
    assert {"zoo/registry.toml", "zoo/deploy/bundle/web/index.html"} <= set(zipfile.ZipFile(wheel).namelist())


def test_its_metadata_never_asks_for_both_onnxruntimes() -> None:
    from packaging.requirements import Requirement

    text = (ROOT / "pyproject.toml").read_text()
    import tomllib

    wanted = [Requirement(r) for r in tomllib.loads(text)["project"]["dependencies"]]
    runtimes = [r for r in wanted if r.name.startswith("onnxruntime")]
    machines = [
        ("linux", "x86_64"),
        ("linux", "aarch64"),
        ("win32", "AMD64"),
        ("darwin", "arm64"),
        ("darwin", "x86_64"),
    ]
    for platform, machine in machines:
        chosen = [
            r.name
            for r in runtimes
            if r.marker and r.marker.evaluate({"sys_platform": platform, "platform_machine": machine})
        ]
        gpu = platform != "darwin" and machine in ("x86_64", "AMD64")
        assert chosen == ["onnxruntime-gpu" if gpu else "onnxruntime"], (platform, machine)


@pytest.mark.slow
def test_it_works_outside_the_repository(wheel: Path, tmp_path: Path) -> None:
    python = make_venv(tmp_path / "venv", share=True)
    install(python, "--no-deps", str(wheel))
    (tmp_path / "empty").mkdir()
    use_as_a_stranger(python, tmp_path / "empty")


@pytest.mark.slow
def test_it_brings_everything_it_needs(wheel: Path, tmp_path: Path) -> None:
    python = make_venv(tmp_path / "venv", share=False)
    install(python, str(wheel))
    (tmp_path / "empty").mkdir()
    use_as_a_stranger(python, tmp_path / "empty")


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of a venv that has the wheel."""
    python = make_venv(tmp_path_factory.mktemp("installed") / "venv", share=True)
    install(python, "--no-deps", str(wheel))
    return python


@pytest.mark.slow
def test_the_page_on_python_runs_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(), re.DOTALL)
    assert len(blocks) > 4
    code = "\n".join([*blocks, "print(zoo.__file__)"])
    done = subprocess.run([installed, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert str(installed.parent.parent) in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "first.tar.gz"}


@pytest.mark.slow
def test_the_notebook_runs_in_an_empty_folder(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    kernel, empty = tmp_path / "jupyter/kernels/wheel", tmp_path / "empty"
    kernel.mkdir(parents=True)
    empty.mkdir()
    argv = [str(installed), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "wheel", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    notebook = nbformat.read(ROOT / "examples/first.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells), "clear its outputs: they are of one machine"
    where = nbformat.v4.new_code_cell("zoo.__file__")  # type: ignore[no-untyped-call]
    notebook.cells.append(where)
    NotebookClient(notebook, timeout=600, kernel_name="wheel", resources={"metadata": {"path": str(empty)}}).execute()
    assert str(installed.parent.parent) in where.outputs[0]["data"]["text/plain"]
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert not [output for output in outputs if output.get("name") == "stdout"]
    pages = [output["data"]["text/html"] for output in outputs if "text/html" in output.get("data", {})]
    assert sum('class="zoo-result"' in page for page in pages) == 6
    assert {path.name for path in empty.iterdir()} == {"runs", "digits.tar.gz"}
