"""The house holds its shape: imports run one way, files and functions stay small, nothing heavy loads early."""

from __future__ import annotations

import ast
import sys
from typing import TYPE_CHECKING

import pytest

from .conftest import ROOT, run_python
from .house import House, room_of

if TYPE_CHECKING:
    from pathlib import Path

HOUSE = House(ROOT)
CORE = sorted((ROOT / "zoo").rglob("*.py"))
LEAVES = sorted([*(ROOT / "exporters").rglob("*.py"), *(ROOT / "plugins/zoo_plugins").rglob("*.py")])
HEAVY = ("torch", "timm", "onnx", "cv2", "albumentations", "onnxruntime", "pydantic", "numpy")

# A room may import from lower floors and from itself; never from its own floor.
FLOORS = (
    {"zoo.errors", "zoo.runtime", "zoo.evaluation"},
    {"zoo.contracts", "zoo.disk"},
    {"zoo.data", "zoo.catalogue"},
    {"zoo.records", "zoo.plugin", "zoo.preprocess"},
    {"zoo.training", "zoo_exporters", "zoo_plugins"},
    {"zoo.exporting"},
    {"zoo.deploy", "zoo.tune", "zoo.testing"},
    {"zoo.cli"},
    {"zoo.__init__", "zoo.__main__", "bench"},
)
STAIRS = {"zoo.training": ("machine", "learn", "")}
"""Inside a room: packages from below upwards; "" is what stands beside them."""


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


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def floor_of(room: str) -> int:
    """The floor of a room; each must stand somewhere."""
    found = [number for number, rooms in enumerate(FLOORS) if room in rooms]
    assert found, f"{room} stands on no floor; add it to FLOORS"
    return found[0]


def roots(file: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(file)}


def test_the_walk_sees_the_whole_house() -> None:
    assert len(CORE) > 40
    assert len(LEAVES) > 8


@pytest.mark.parametrize("module", sorted(HOUSE.modules))
def test_imports_go_down(module: str) -> None:
    """At run time and for type checkers alike: who needs only a name still says where it must be looked for."""
    own = room_of(module)
    for target in HOUSE.imports[module]:
        if (room := room_of(target)) != own:
            assert floor_of(room) < floor_of(own), f"{module} imports {target}"


@pytest.mark.parametrize("room", STAIRS)
def test_imports_go_down_inside_a_room(room: str) -> None:
    steps = STAIRS[room]

    def step_of(module: str) -> int:
        name = module.removeprefix(f"{room}.").partition(".")[0]
        return steps.index(name if name in steps else "")

    for module, targets in HOUSE.imports.items():
        for target in (t for t in targets if room_of(module) == room_of(t) == room):
            assert step_of(target) <= step_of(module), f"{module} imports {target}"


def test_no_circle_and_few_names() -> None:
    assert not HOUSE.circles
    assert HOUSE.floors <= len(FLOORS)
    assert len(HOUSE.names_at_top) <= 16


@pytest.mark.parametrize("file", CORE, ids=module_of)
def test_the_core_names_no_leaf(file: Path) -> None:
    assert not roots(file) & {"zoo_exporters", "zoo_plugins", "onnx", "albumentations"}


@pytest.mark.parametrize("file", CORE, ids=module_of)
def test_timm_and_onnxruntime_have_one_room_each(file: Path) -> None:
    module = module_of(file)
    assert "timm" not in roots(file) or module.startswith("zoo.training")
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
        if isinstance(node, ast.FunctionDef):
            # A command and the function that it calls have a line for each of their words.
            limit = 60 if file.is_relative_to(ROOT / "zoo/cli") or file.name == "door.py" else 50
            assert (node.end_lineno or 0) - node.lineno < limit, f"{node.name} in {file.name} is too long"


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
