"""`zoo plugin check`: each promise gets a verdict, whatever the plugin does to the process that asks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.isolation.bad_plugins import GOOD_DATASET, LINE_BEFORE, Bad, install

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..conftest import Answer

DOCUMENTED = '''def plugin(root, *, count: int = 40):
    """Dark or light.

    Args:
        root: Not used.
        count: How many.
    """
'''
GOOD = GOOD_DATASET.replace("def plugin(root):\n", DOCUMENTED).replace("arange(40)", "arange(count)")
GOOD = GOOD.replace('splits={"train"', 'license="CC0-1.0", splits={"train"')
CRASHES_LATER = "import ctypes\ndef plugin(root):\n    '''Crash.'''\n    ctypes.string_at(0)\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    install(folder, Bad("fine", GOOD, ""))
    install(folder, Bad("segfaults", CRASHES_LATER, ""))
    install(folder, Bad("raises", "raise RuntimeError('no')\n" + LINE_BEFORE, ""))
    install(folder, Bad("headless", LINE_BEFORE, "", entry_points="[zoo.datasets]\nthis is no entry point\n"))
    return folder


def check(site: Path, folder: Path, *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    env = {**os.environ, "PYTHONPATH": str(site), "ZOO_HOME": str(folder / "home")}
    command = [sys.executable, "-m", "zoo", "plugin", "check", *arguments, "--json"]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    return done.returncode, json.loads(done.stdout) if done.stdout else [], done.stderr


def test_a_good_plugin_keeps_every_promise(site: Path, tmp_path: Path) -> None:
    code, verdicts, _ = check(site, tmp_path, "fine", "--option", "count=60")
    assert code == 0
    assert len(verdicts) == 20
    assert {(v["plugin"], v["verdict"]) for v in verdicts} == {("fine/fine", "kept")}
    assert not [path for path in tmp_path.iterdir() if path.name != "home"]


def test_a_broken_import_is_a_verdict(site: Path, tmp_path: Path) -> None:
    code, verdicts, stderr = check(site, tmp_path, "raises")
    assert code == 3
    assert {v["verdict"] for v in verdicts} == {"broken"}
    assert verdicts[0]["reason"] == "it raises RuntimeError at import: no"
    assert stderr.splitlines()[-1].startswith("zoo: 20 of 20 promises do not hold; first: importing it does nothing")


def test_a_crash_is_told_and_loses_no_verdict(site: Path, tmp_path: Path) -> None:
    code, verdicts, _ = check(site, tmp_path, "segfaults")
    assert code == 3
    by_promise = {v["promise"]: v for v in verdicts}
    assert by_promise["importing it does nothing else"]["verdict"] == "kept"
    assert "exit code -11" in by_promise["it returns a dataset"]["reason"]


def test_the_time_limit_ends_it(site: Path, tmp_path: Path) -> None:
    code, verdicts, _ = check(site, tmp_path, "fine", "--timeout", "1")
    assert code == 3
    assert any("1 s" in v["reason"] or v["verdict"] == "not reached" for v in verdicts)


def test_a_folder_need_not_be_installed(site: Path, tmp_path: Path, cli: Callable[..., Answer]) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "lent.py").write_text(GOOD)
    project = '[project]\nname = "lent"\nversion = "1.0"\n[project.entry-points."zoo.datasets"]\nlent = "lent:plugin"\n'
    (package / "pyproject.toml").write_text(project)
    code, verdicts, _ = check(site, tmp_path, "./package")
    assert code == 0, verdicts
    assert {v["plugin"] for v in verdicts} == {"lent/lent"}
    assert sorted(path.name for path in package.iterdir()) == ["lent.py", "pyproject.toml"]
    (package / "pyproject.toml").write_text('[project]\nname = "lent"\n')
    assert "names no plugin" in cli("plugin", "check", "./package").error


def test_a_name_that_there_is_not_gets_close_ones(cli: Callable[..., Answer]) -> None:
    answer = cli("plugin", "check", "resnet5O")
    assert answer.code == 1
    assert "did you mean resnet5" in answer.error


def test_without_pytest_it_says_what_to_install(cli: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'edgezoo[testing]'" in cli("plugin", "check", "digits").error
