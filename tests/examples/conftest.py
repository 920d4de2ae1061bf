"""The examples in other languages, built with the packages that their READMEs name."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from zoo.exporting.export import export_run
from zoo.exporting.job import ExportSpec

from ..bundles import unpacked_bundle
from ..conftest import ROOT
from ..debian import unpack
from ..tools import call, tool

if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo.catalogue import Catalogue
    from zoo.records.artifact import Artifact
    from zoo.records.run import Run

    Example = list[str]

HEADERS = Path("/usr/include/onnxruntime")


@pytest.fixture(scope="session")
def bundles(
    catalogue: Catalogue, trained_run: Run, onnx_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Unpacked, by precision; not to be changed."""
    spec = ExportSpec(format="onnx", precision="int8-weights")
    artifacts = {"fp32": onnx_artifact, "int8-weights": export_run(catalogue, trained_run, spec)[0]}
    return {name: unpacked_bundle(artifact, tmp_path_factory.mktemp(name)) for name, artifact in artifacts.items()}


@pytest.fixture(scope="session")
def cpp(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """Compile the C++ example against the library that Python's onnxruntime brings."""
    import onnxruntime

    folder = tmp_path_factory.mktemp("cpp")
    for file in ("classify.cpp", "Makefile"):
        shutil.copy(ROOT / "examples/cpp" / file, folder)
    (folder / "lib").mkdir()
    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / "lib" / name).symlink_to(library)
    places = [HEADERS]
    if not HEADERS.is_dir():
        include = unpack(folder / "debian", "libonnxruntime-dev", "nlohmann-json3-dev") / "usr/include"
        places = [include / "onnxruntime", include]
    tool("g++")
    call(tool("make"), f"INCLUDE={' '.join(map(str, places))}", "LIB=lib", "CXXFLAGS=-Werror", cwd=folder)
    return [str(folder / "classify")]


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Example:
    """Install the packages of the Node example; its modules keep their places beside it."""
    folder = tmp_path_factory.mktemp("node")
    for part in ("examples/node", "zoo/deploy/bundle/web"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
    quietly = ("--ignore-scripts", "--no-audit", "--no-fund", "--silent")
    call(tool("npm"), "install", *quietly, cwd=folder / "examples/node")
    return [tool("node"), str(folder / "examples/node/classify.mjs")]


@pytest.fixture(params=["cpp", "node"])
def ask(request: pytest.FixtureRequest) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run an example with arguments."""
    command: Example = request.getfixturevalue(request.param)

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, env=dict(os.environ))

    return run
