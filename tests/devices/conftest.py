"""The demo's files and pictures, and the devices that are asked about them; what came out is printed at the end."""

from __future__ import annotations

import base64
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from zoo.catalogue.made.dataset import open_dataset
from zoo.data.prepared import prepare
from zoo.exporting.export import export_run
from zoo.exporting.job import ExportSpec
from zoo.records.layers import resolve_options
from zoo.training.session import start_run

from ..bundles import unpacked_bundle
from ..debian import unpack
from ..pages import opened, ready, self_test
from ..test_wheel import install, make_venv
from ..tools import call, missing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zoo.catalogue import Catalogue
    from zoo.records.artifact import Artifact

    Device = Callable[[Path, Sequence[Path]], tuple[bool, np.ndarray]]
    """From a bundle's folder and pictures to whether its selftest passes, and probabilities, float64 [N, C]."""

PICTURES = 200
PRECISIONS = ("fp32", "int8")
VERSIONS = {name: importlib.metadata.version(name) for name in ("numpy", "pillow")}
VERSIONS["onnxruntime"] = onnxruntime.__version__
USERLAND = ("python3-minimal", "libpython3-stdlib", "libstdc++6", "libgcc-s1", "zlib1g")
IN_THE_PAGE = """
async (pictures) => {
  const { Files, readManifest } = await import("./model.mjs");
  const { load } = await import("./runtime.mjs");
  const { decode } = await import("./decode.mjs");
  const files = await Files.open(async (name) => new Uint8Array(await (await fetch(name)).arrayBuffer()));
  const manifest = await readManifest(files);
  const model = await load(files, manifest, "wasm", () => {});
  const answers = [];
  for (const picture of pictures) {
    const bytes = Uint8Array.from(atob(picture), (letter) => letter.charCodeAt(0));
    const { top } = await model.classify(await decode(new Blob([bytes])), manifest.classes.length);
    answers.push(Object.fromEntries(top.map(({ name, probability }) => [name, probability])));
  }
  return answers;
}
"""


@pytest.fixture(scope="session")
def artifacts(catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """What `make demo` makes: the tiny model, trained by its recipe on digits, in onnxruntime's precisions."""
    options = resolve_options(catalogue, {"model": "tiny", "dataset": "digits"}, None, None)
    run = start_run(catalogue, options, tmp_path_factory.mktemp("runs") / "demo")
    return {name: export_run(catalogue, run, ExportSpec(format="onnx", precision=name))[0] for name in PRECISIONS}


@pytest.fixture
def bundled(catalogue: Catalogue, artifacts: dict[str, Artifact], tmp_path: Path) -> Callable[[str, str], Path]:
    """Bundle a precision for a target, and unpack it."""
    return lambda precision, target: unpacked_bundle(artifacts[precision], tmp_path, catalogue.target(target))


@pytest.fixture(scope="session")
def pictures(catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Digits that no training saw: all of val, then of test, as PNG files."""
    folder = tmp_path_factory.mktemp("pictures")
    data = prepare(open_dataset(catalogue, "digits", {}), "digits", seed=0)
    held_out = [image for split in ("val", "test") for image in data.splits[split].images][:PICTURES]
    files = [folder / f"{number:03}.png" for number in range(len(held_out))]
    for file, image in zip(files, held_out, strict=True):
        Image.fromarray(np.asarray(image)).save(file)
    return files


@pytest.fixture(scope="session")
def small_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A venv's Python with numpy, onnxruntime and Pillow, and nothing else."""
    folder = tmp_path_factory.mktemp("venv")
    python = make_venv(folder / "venv", share=False)
    install(python, *(f"{name}=={version}" for name, version in VERSIONS.items()))
    code = "import importlib.util as found; print([n for n in ('zoo', 'torch', 'onnx', 'cv2') if found.find_spec(n)])"
    assert call(python, "-c", code, cwd=folder) == "[]\n"
    return python


@pytest.fixture(scope="session")
def this_machine(
    small_python: Path, tmp_path_factory: pytest.TempPathFactory, artifacts: dict[str, Artifact]
) -> Device:
    """A venv that holds what the bundle's requirements.txt names, and nothing else."""
    bundle = unpacked_bundle(artifacts["fp32"], tmp_path_factory.mktemp("bundle"))
    install(small_python, "--requirement", str(bundle / "requirements.txt"))
    return partial(ask, [str(small_python)], {})


@pytest.fixture(scope="session")
def qemu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of qemu's programs, each of which is a processor."""
    return unpack(tmp_path_factory.mktemp("qemu"), "qemu-user") / "usr/bin"


@pytest.fixture(scope="session")
def haswell_python(qemu: Path, small_python: Path) -> list[str]:
    """The same Python on an x86 of 2013, with AVX2 and without VNNI. What it starts itself runs on this machine."""
    if platform.machine() != "x86_64":
        missing("there is no Python for x86-64 to emulate")
    return [str(qemu / "qemu-x86_64"), "-cpu", "Haswell", str(small_python)]


@pytest.fixture(scope="session")
def haswell(haswell_python: list[str]) -> Device:
    """The same, asked about bundles."""
    return partial(ask, haswell_python, {})


@pytest.fixture(scope="session")
def aarch64(qemu: Path, tmp_path_factory: pytest.TempPathFactory) -> Device:
    """Debian's Python for arm64 with PyPI's wheels for it, behind qemu, which runs nothing of this machine's."""
    folder = tmp_path_factory.mktemp("arm64")
    root = unpack(folder / "arm64", *USERLAND, architecture="arm64", whole=True)
    (python,) = (root / "usr/bin").glob("python3.[0-9]*[0-9]")
    packages = [f"{name}=={version}" for name, version in VERSIONS.items()]
    where = ["--python-platform", "aarch64-manylinux_2_28", "--python-version", python.name.removeprefix("python")]
    install(Path(sys.executable), *where, "--only-binary", ":all:", "--target", str(folder / "site"), *packages)
    command = [str(qemu / "qemu-aarch64"), "-L", str(root), str(python)]
    env = {"PYTHONPATH": str(folder / "site")}
    assert call(*command, "-c", "import platform; print(platform.machine())", env=env) == "aarch64\n"
    return partial(ask, command, env)


@pytest.fixture(scope="session")
def chromium() -> Device:
    """The bundle's page; the pictures go through its own modules, since it shows hundredths of a percent."""

    def ask_page(bundle: Path, pictures: Sequence[Path]) -> tuple[bool, np.ndarray]:
        with opened(bundle) as page:
            ready(page)
            passed = self_test(page).startswith("PASS: ")
            told = page.evaluate(IN_THE_PAGE, [base64.b64encode(file.read_bytes()).decode() for file in pictures])
        return passed, table(told, bundle)

    return ask_page


def ask(command: list[str], env: dict[str, str], bundle: Path, pictures: Sequence[Path]) -> tuple[bool, np.ndarray]:
    """Run a bundle's own commands by some Python."""
    module, env = [*command, "-m", "zoo_runtime"], {"PYTHONDONTWRITEBYTECODE": "1", **env}
    whole = {**os.environ, **env}
    tested = subprocess.run([*module, "selftest", "--json"], cwd=bundle, env=whole, capture_output=True, text=True)
    assert tested.returncode in (0, 3), tested.stderr
    said = call(*module, "predict", "--json", "--top", "1000", *pictures, cwd=bundle, env=env)
    answers = [{one["class"]: one["probability"] for one in p["top"]} for p in json.loads(said)["predictions"]]
    assert json.loads(tested.stdout)["ok"] is (tested.returncode == 0)
    return tested.returncode == 0, table(answers, bundle)


def table(answers: Sequence[dict[str, float]], bundle: Path) -> np.ndarray:
    """Return probabilities in the order of the classes, float64 [N, C]."""
    classes = json.loads((bundle / "artifact.json").read_text())["classes"]
    return np.array([[answer[name] for name in classes] for answer in answers])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table of docs/bundle.md."""
    reports = [report for group in ("passed", "failed") for report in terminalreporter.getreports(group)]
    rows = [row for report in reports for name, row in report.user_properties if name == "row"]
    if rows:
        terminalreporter.section("the same answers elsewhere")
        head = ["device", "precision", "selftest", "top-1 as here", "largest difference", "limit"]
        for row in (head, ["---"] * len(head), *rows):
            terminalreporter.write_line(f"| {' | '.join(map(str, row))} |")
