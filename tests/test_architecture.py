"""The house holds its shape: imports run one way, files and functions stay small, nothing heavy loads early."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from .conftest import ROOT, run_python

CORE = sorted((ROOT / "zoo").rglob("*.py"))
LEAVES = sorted([*(ROOT / "exporters").rglob("*.py"), *(ROOT / "plugins/zoo_plugins").rglob("*.py")])
HEAVY = ("torch", "timm", "onnx", "cv2", "albumentations", "onnxruntime", "pydantic", "numpy")

# What a room may import of its own house; a deeper name wins. The order is the direction: later may import earlier.
LAYERS = (
    {"zoo", "zoo.errors", "zoo.runtime", "zoo.evaluate"},
    {"zoo.disk", "zoo.contracts"},
    {"zoo.data", "zoo.catalogue"},
    {"zoo.plugin", "zoo.preprocess", "zoo.runs"},
    {"zoo.train"},
    {"zoo.export"},
    {"zoo.tune", "zoo.deploy", "zoo.testing"},
    {"zoo.cli", "zoo.__main__"},
)


def imports(file: Path) -> set[str]:
    """Every absolute module name that a file imports, anywhere in it, also for type checkers only."""
    return names_in(ast.parse(file.read_text()))


def names_in(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:  # only zoo.runtime has relative ones, of its own
            names.add(node.module or "")
            names |= {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "zoo" else set()
    return names


def imports_at_run_time(file: Path) -> set[str]:
    """The same, without what stands under `if TYPE_CHECKING:`."""
    tree = ast.parse(file.read_text())
    tree.body = [
        node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
    ]
    return names_in(tree)


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def layer_of(module: str) -> int:
    """The layer of a module: the longest prefix that a layer names; plain `zoo.x` names must be listed."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        for number, names in enumerate(LAYERS):
            if ".".join(parts[:length]) in names and (length > 1 or module == "zoo"):
                return number
    raise AssertionError(f"{module} belongs to no layer; add it to LAYERS where it should stand")


def roots(file: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(file)}


def test_the_walk_sees_the_whole_house() -> None:
    assert len(CORE) > 40
    assert len(LEAVES) > 8


@pytest.mark.parametrize("file", CORE, ids=module_of)
def test_imports_run_one_way(file: Path) -> None:
    own = layer_of(module_of(file))
    for name in imports_at_run_time(file):
        if name.startswith("zoo."):
            module = name if is_module(name) else name.rpartition(".")[0]
            assert layer_of(module) <= own, f"{module_of(file)} imports {name}"


def is_module(name: str) -> bool:
    place = ROOT / Path(*name.split("."))
    return place.is_dir() or place.with_suffix(".py").is_file()


@pytest.mark.parametrize("file", CORE, ids=module_of)
def test_the_core_names_no_leaf(file: Path) -> None:
    assert not roots(file) & {"zoo_exporters", "zoo_plugins", "onnx", "albumentations"}


@pytest.mark.parametrize("file", CORE, ids=module_of)
def test_timm_and_onnxruntime_have_one_room_each(file: Path) -> None:
    module = module_of(file)
    assert "timm" not in roots(file) or module.startswith("zoo.train")
    assert "onnxruntime" not in roots(file) or module.startswith("zoo.runtime")


@pytest.mark.parametrize("file", sorted((ROOT / "zoo/runtime").rglob("*.py")), ids=module_of)
def test_the_runtime_stands_alone(file: Path) -> None:
    allowed = {"numpy", "onnxruntime", "PIL", "__future__", *sys.stdlib_module_names}
    foreign = {name for name in imports(file) if name.split(".")[0] not in allowed}
    assert not foreign


@pytest.mark.parametrize("file", LEAVES, ids=lambda f: f.stem)
def test_plugins_use_the_strangers_door(file: Path) -> None:
    own = {"zoo.plugin", "zoo.preprocess", "zoo.errors", "zoo.runtime"}
    for name in imports(file):
        if name.startswith("zoo."):
            assert name in own or name.rpartition(".")[0] in own, f"{file.name} imports {name}"


@pytest.mark.parametrize("file", [*CORE, *LEAVES], ids=lambda f: str(f.relative_to(ROOT)))
def test_files_and_functions_stay_small(file: Path) -> None:
    text = file.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and not file.is_relative_to(ROOT / "zoo/cli"):
            assert (node.end_lineno or 0) - node.lineno < 50, f"{node.name} in {file.name} is too long"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["list", "models"], ["list", "datasets"], ["list", "exporters"]], ids=" ".join
)
def test_listing_loads_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    code = f"""
import sys
from zoo.cli.app import app
try:
    app({arguments!r})
except SystemExit as exc:
    assert not exc.code, exc.code
loaded = [name for name in {HEAVY!r} if name in sys.modules]
print("loaded:", loaded, file=sys.stderr)
"""
    done = run_python(code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "loaded: []"
    assert done.stdout


def test_importing_zoo_loads_nothing_heavy(tmp_path: Path) -> None:
    done = run_python(f"import sys, zoo; print([n for n in {HEAVY!r} if n in sys.modules])", cwd=tmp_path)
    assert done.stdout.strip() == "[]"
