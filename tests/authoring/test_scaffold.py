"""A new package is whole or not there; it installs, passes its own tests and is listed, with no edit."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from zoo.catalogue import Catalogue
from zoo.catalogue.installed import GROUPS
from zoo.cli.plugin import Kind
from zoo.errors import DuplicateName, EnvironmentBroken, OptionInvalid, ZooError
from zoo.testing.authoring import scaffold
from zoo.testing.authoring.scaffold import ATTRIBUTES, DEPENDENCIES, KINDS, NewPackage, new_package

from ..conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..conftest import Answer


def write(catalogue: Catalogue, kind: str, into: Path, name: str = "dash-ed2") -> NewPackage:
    return new_package(catalogue, name, kind, into)


def one_line(error: ZooError) -> str:
    text = str(error)
    assert "\n" not in text
    return text


def nothing_in(folder: Path) -> bool:
    return not list(folder.iterdir())


def test_every_kind_is_there_for_the_command_line_too() -> None:
    assert list(KINDS) == [kind.value for kind in Kind]
    assert set(KINDS) == GROUPS.keys() - {"backbone family"} == DEPENDENCIES.keys() == ATTRIBUTES.keys()


def test_every_template_is_left_alone_by_other_tools() -> None:
    files = [file for file in scaffold.TEMPLATES.rglob("*") if file.is_file()]
    assert files
    assert {file.suffix for file in files} == {".j2"}
    assert (scaffold.TEMPLATES / "common/LICENSE.j2").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_package_is_complete_and_well_formed(kind: str, catalogue: Catalogue, tmp_path: Path) -> None:
    package = write(catalogue, kind, tmp_path)
    folder = tmp_path / "zoo-plugin-dash-ed2"
    assert package.folder == folder
    assert [file.name for file in tmp_path.iterdir()] == [folder.name]
    found = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    assert found == list(package.files)
    assert {".github/workflows/test.yml", ".gitignore", "LICENSE", "README.md", "pyproject.toml"} <= set(found)
    for file in found:
        text = (folder / file).read_text()
        assert text.endswith("\n")
        assert not text.endswith("\n\n")
        assert "{%" not in text
        assert "\n\n\n\n" not in text
        if file.endswith(".py"):
            compile(text, file, "exec")
            assert max(map(len, text.splitlines())) <= 120
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_pyproject_names_what_is_there(kind: str, catalogue: Catalogue, tmp_path: Path) -> None:
    package = write(catalogue, kind, tmp_path)
    project = tomllib.loads((package.folder / "pyproject.toml").read_text())
    facts = project["project"]
    assert (facts["name"], facts["version"], facts["requires-python"]) == ("zoo-plugin-dash-ed2", "0.1.0", ">=3.11")
    assert facts["license"] == "Apache-2.0"
    assert facts["dependencies"][0] == "edgezoo"
    assert facts["optional-dependencies"] == {"test": ["edgezoo[testing]"]}
    assert facts["entry-points"] == {GROUPS[kind]: {"dash-ed2": package.value}}
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"] == ["zoo_plugin_dash_ed2.py"]
    assert project["tool"]["pytest"]["ini_options"]["filterwarnings"] == ["error"]
    module, _, attribute = package.value.partition(":")
    assert f"{attribute}(" in (package.folder / f"{module}.py").read_text() or kind in ("exporter", "tracker")


def test_workflow_is_yaml(catalogue: Catalogue, tmp_path: Path) -> None:
    yaml: Any = importlib.import_module("yaml")
    package = write(catalogue, "dataset", tmp_path)
    job = yaml.safe_load((package.folder / ".github/workflows/test.yml").read_text())["jobs"]["test"]
    assert job["steps"][1]["with"] == {"python-version": "${{ matrix.python }}"}
    assert [step["run"] for step in job["steps"][2:]] == [
        "pip install '.[test]'",
        "pytest",
        "zoo plugin check dash-ed2",
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_code_is_clean(kind: str, catalogue: Catalogue, tmp_path: Path) -> None:
    folder = write(catalogue, kind, tmp_path).folder
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    options = ["--isolated", "--no-cache", "--line-length", "120", "--target-version", "py311"]
    chosen = ["--select", ",".join(rules["select"]), "--ignore", ",".join(rules["ignore"])]
    chosen += ["--config", "lint.per-file-ignores = {'tests/**' = ['D1']}"]
    for command in (["check", *options, *chosen], ["format", "--check", *options]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "."], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["class", "np", "torch", "zoo", "dataset", "a", "x" * 50])
@pytest.mark.parametrize("kind", KINDS)
def test_no_name_hides_anything_in_the_module(kind: str, name: str, catalogue: Catalogue, tmp_path: Path) -> None:
    package = write(catalogue, kind, tmp_path, name)
    for file in package.files:
        if file.endswith(".py"):
            compile((package.folder / file).read_text(), file, "exec")
    assert not package.value.endswith(f":{name}")


@pytest.mark.parametrize(
    "name",
    ["", "A", "Flowers", "1a", "-a", "a-", "a--b", "a_b", "a.b", "a b", "a/b", "../a", "a\n", "ä", "{{ a }}", "x" * 51],
)
def test_name_that_cannot_be_one_is_refused(name: str, catalogue: Catalogue, tmp_path: Path) -> None:
    with pytest.raises(OptionInvalid, match="use") as caught:
        write(catalogue, "dataset", tmp_path, name)
    one_line(caught.value)
    assert nothing_in(tmp_path)


@pytest.mark.parametrize(
    ("kind", "name", "owner"),
    [
        ("dataset", "digits", "edgezoo"),
        ("augmentation", "light", "edgezoo"),
        ("exporter", "onnx", "edgezoo"),
        ("backbone", "tiny", "registry.toml"),
        ("backbone", "resnet18", "edgezoo"),
    ],
)
def test_taken_name_is_refused(kind: str, name: str, owner: str, catalogue: Catalogue, tmp_path: Path) -> None:
    with pytest.raises(DuplicateName, match=f"is there already, from {owner}.*choose another name") as caught:
        write(catalogue, kind, tmp_path, name)
    one_line(caught.value)
    assert nothing_in(tmp_path)


def test_a_name_of_another_kind_is_free(catalogue: Catalogue, tmp_path: Path) -> None:
    assert write(catalogue, "tracker", tmp_path, "digits").value == "zoo_plugin_digits:DigitsTracker"


def test_kind_that_does_not_exist_is_refused(catalogue: Catalogue, tmp_path: Path) -> None:
    with pytest.raises(OptionInvalid, match="'loss' does not exist; choose dataset"):
        write(catalogue, "loss", tmp_path)
    assert nothing_in(tmp_path)


@pytest.mark.parametrize("what", ["folder", "empty folder", "file", "link to nowhere"])
def test_what_exists_is_refused_and_untouched(what: str, catalogue: Catalogue, tmp_path: Path) -> None:
    place = tmp_path / "zoo-plugin-dash-ed2"
    if what == "link to nowhere":
        place.symlink_to(tmp_path / "nowhere")
    elif what == "file":
        place.write_text("mine")
    else:
        place.mkdir()
    if what == "folder":
        (place / "mine.txt").write_text("mine")
    before = sorted((str(p), p.lstat().st_mtime_ns) for p in tmp_path.rglob("*"))
    with pytest.raises(EnvironmentBroken, match="zoo-plugin-dash-ed2 exists already; remove it, or choose") as caught:
        write(catalogue, "dataset", tmp_path)
    one_line(caught.value)
    assert sorted((str(p), p.lstat().st_mtime_ns) for p in tmp_path.rglob("*")) == before


def test_place_that_cannot_be_written_is_refused(catalogue: Catalogue, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentBroken, match=r"cannot write in .*; choose another place") as caught:
        write(catalogue, "dataset", tmp_path / "file")
    one_line(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "killed"])
def test_failing_midway_leaves_nothing(
    fault: BaseException, catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    write_text = Path.write_text

    def fail_at_the_third(self: Path, *arguments: Any, **keywords: Any) -> int:
        written.append(self.name)
        if len(written) == 3:
            raise fault
        return write_text(self, *arguments, **keywords)

    monkeypatch.setattr(Path, "write_text", fail_at_the_third)
    with pytest.raises((EnvironmentBroken, KeyboardInterrupt)) as caught:
        write(catalogue, "dataset", tmp_path)
    if isinstance(caught.value, ZooError):
        assert "No space left on device; free space or choose another place" in one_line(caught.value)
    assert len(written) == 3
    assert nothing_in(tmp_path)


def test_somebody_who_was_faster_keeps_what_is_theirs(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / "zoo-plugin-dash-ed2"
    monkeypatch.setattr(scaffold, "_check_place", lambda folder: None)
    theirs.mkdir()
    (theirs / "mine.txt").write_text("mine")
    with pytest.raises(EnvironmentBroken, match="cannot write"):
        write(catalogue, "dataset", tmp_path)
    assert [str(p.relative_to(tmp_path)) for p in sorted(tmp_path.rglob("*"))] == [
        theirs.name,
        f"{theirs.name}/mine.txt",
    ]


def test_command_shows_what_it_made_and_what_comes_next(cli: Callable[..., Answer], tmp_path: Path) -> None:
    answer = cli("plugin", "new", "flowers", "--kind", "dataset", "--into", "my plugins")
    assert (answer.code, answer.stderr) == (0, "")
    lines = answer.stdout.splitlines()
    assert lines[0] == "my plugins/zoo-plugin-flowers/"
    assert "  zoo_plugin_flowers.py" in lines
    assert lines[-4:] == [
        "  cd 'my plugins/zoo-plugin-flowers'",
        "  pip install -e '.[test]'",
        "  pytest",
        "  zoo plugin check flowers",
    ]
    assert (tmp_path / "my plugins/zoo-plugin-flowers/zoo_plugin_flowers.py").is_file()


def test_command_answers_in_json(cli: Callable[..., Answer]) -> None:
    answer = cli("plugin", "new", "flowers", "--kind", "exporter", "--json")
    found = json.loads(answer.stdout)
    assert found.keys() == {"package", "files", "entry_point"}
    assert found["package"] == "zoo-plugin-flowers"
    assert found["entry_point"] == {
        "group": "zoo.exporters",
        "name": "flowers",
        "value": "zoo_plugin_flowers:FlowersExporter",
    }
    assert all(Path(found["package"], file).is_file() for file in found["files"])


def test_command_refuses_in_one_line(cli: Callable[..., Answer], tmp_path: Path) -> None:
    assert cli("plugin", "new", "flowers", "--kind", "loss").code == 2
    assert cli("plugin", "new", "flowers").code == 2
    answer = cli("plugin", "new", "Flowers", "--kind", "dataset")
    assert answer.code == 1
    assert "'Flowers' cannot name a plugin" in answer.error
    assert nothing_in(tmp_path)


def test_module_loads_no_template_engine(tmp_path: Path) -> None:
    code = "import sys, zoo.testing.authoring.scaffold; print('jinja2' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("kind", [pytest.param(k, marks=[] if k == "dataset" else [pytest.mark.slow]) for k in KINDS])
def test_package_installs_passes_its_tests_and_is_listed(kind: str, catalogue: Catalogue, tmp_path: Path) -> None:
    package = write(catalogue, kind, tmp_path, f"new-{kind}")
    site = tmp_path / "site"
    install = ["uv", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", str(site)]
    run([*install, "--python", sys.executable, str(package.folder)], tmp_path)
    tests = run(["pytest", "-q", "-p", "no:cacheprovider"], package.folder, PYTHONPATH=str(site))
    assert "passed" in tests
    assert not {"failed", "error", "skipped", "warning"} & set(tests.replace(",", " ").split())
    listed = json.loads(run(["zoo", "plugin", "list", "--json"], tmp_path, PYTHONPATH=str(site)))
    (own,) = [plugin for plugin in listed if plugin["distribution"] == f"zoo-plugin-new-{kind}"]
    assert (own["name"], own["kind"], own["state"], own["reason"], own["api"]) == (f"new-{kind}", kind, "ok", "", 1)


def test_name_of_an_installed_package_is_refused_for_every_kind(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = write(catalogue, "tracker", tmp_path, "new-one")
    (tmp_path / "zoo_plugin_new_one-0.1.0.dist-info").mkdir()
    (tmp_path / "zoo_plugin_new_one-0.1.0.dist-info/METADATA").write_text("Name: Zoo_Plugin.new-one\nVersion: 0.1.0\n")
    entry_point = f"[{package.group}]\n{package.name} = {package.value}\n"
    (tmp_path / "zoo_plugin_new_one-0.1.0.dist-info/entry_points.txt").write_text(entry_point)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "into").mkdir()
    with pytest.raises(DuplicateName, match="zoo-plugin-new-one is installed already, with the tracker 'new-one'"):
        write(Catalogue.read(), "dataset", tmp_path / "into", "new-one")
    assert nothing_in(tmp_path / "into")


def run(command: list[str], cwd: Path, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout
