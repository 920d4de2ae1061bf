"""Bad plugins, all installed at once: each is named with its reason, and nothing else is affected."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.isolation.bad_plugins import BAD, GOOD, Bad, install

if TYPE_CHECKING:
    from pathlib import Path

BY_EFFECT = [bad for bad in BAD if bad.state == "ok"]
UNUSABLE = [bad for bad in BAD if bad.state == "broken" and not bad.entry_points]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    for bad in (*BAD, GOOD):
        install(folder, bad)
    return folder


@pytest.fixture(scope="module")
def env(site: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(site), "ZOO_HOME": str(tmp_path_factory.mktemp("home"))}


def zoo(env: dict[str, str], folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "zoo", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=240)


def listed(env: dict[str, str], folder: Path, *arguments: str) -> list[dict[str, Any]]:
    done = zoo(env, folder, "plugin", "list", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return list(json.loads(done.stdout))


def row(rows: list[dict[str, Any]], bad: Bad) -> dict[str, Any]:
    found = [r for r in rows if r["distribution"] == bad.name]
    assert len(found) == 1, (bad.name, found)
    return found[0]


def by_name(name: str) -> Bad:
    return next(bad for bad in BAD if bad.name == name)


def test_there_are_at_least_25() -> None:
    assert len(BAD) >= 25


def test_the_list_imports_none_and_tells_what_the_source_tells(env: dict[str, str], tmp_path: Path) -> None:
    rows = listed(env, tmp_path)
    for bad in BAD:
        if bad.known_without_import:
            assert bad.says in row(rows, bad)["reason"]
            assert row(rows, bad)["state"] == bad.state
    foretold = {"raises", "exits", "interrupts", "ends", "aborts", "sleeps", "computes", "family"}
    assert {name for name in foretold if row(rows, by_name(name))["state"] == "broken"} == foretold
    beside = {"prints", "moves", "seeds", "seeds-numpy", "hushes", "handles", "calls"}
    assert {name for name in beside if by_name(name).says in row(rows, by_name(name))["reason"]} == beside
    assert not [r for r in rows if r["checked"]]
    assert row(rows, GOOD)["state"] == "ok"
    assert not list(tmp_path.iterdir())


def test_the_check_names_each_with_its_reason_and_the_list_remembers(env: dict[str, str], tmp_path: Path) -> None:
    start = time.perf_counter()
    zoo(env, tmp_path, "--help")
    start_up = time.perf_counter() - start
    checked = listed(env, tmp_path, "--check")
    print(f"--check took {time.perf_counter() - start - start_up:.1f} s, start-up {start_up:.1f} s")
    for rows in (checked, listed(env, tmp_path)):
        for bad in BAD:
            found = row(rows, bad)
            assert bad.says in found["reason"], found
            assert found["state"] == bad.state, found
            assert "\n" not in found["reason"]
        assert row(rows, GOOD) == {**row(rows, GOOD), "state": "ok", "reason": "", "checked": True}
        assert {r["state"] for r in rows if r["distribution"] == "edgezoo"} == {"ok", "conflict"}


def test_the_table_has_a_line_for_each(env: dict[str, str], tmp_path: Path) -> None:
    done = zoo(env, tmp_path, "plugin", "list")
    assert done.returncode == 0
    for bad in BAD:
        assert any(bad.name in line for line in done.stdout.splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("bad", UNUSABLE, ids=lambda bad: bad.name)
def test_using_one_is_one_line_and_exit_1(bad: Bad, env: dict[str, str], tmp_path: Path) -> None:
    done = zoo(env, tmp_path, "train", "tiny", "--dataset", bad.name)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("zoo: ")
    assert bad.name in line
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("bad", BY_EFFECT, ids=lambda bad: bad.name)
def test_what_an_import_does_beside_is_undone(bad: Bad, env: dict[str, str], tmp_path: Path) -> None:
    code = f"""
import json, os, random, signal, sys, warnings
import numpy
random.seed(7); numpy.random.seed(7)
def state():
    return [os.getcwd(), hash(random.getstate()), numpy.random.get_state()[1].tolist(),
            [f[0] for f in warnings.filters]]
from zoo.catalogue import Catalogue
catalogue = Catalogue.read()
plugin = catalogue.find("dataset", {bad.name.replace("-", "_")!r})
before = state()
catalogue.load(plugin)
assert state() == before
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


@pytest.mark.slow
def test_a_good_plugin_beside_them_trains_exports_and_predicts(env: dict[str, str], tmp_path: Path) -> None:
    common = ["--no-pretrained", "--image-size", "32", "--epochs", "1", "--augment", "none", "--set", "threads=1"]
    done = zoo(env, tmp_path, "train", "test_resnet", "--dataset", "goodone", "--name", "n", "--json", *common)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["classes"] == ["dark", "light"]
    # The name "onnx" is claimed by a stranger, too: our flag, our files and what was made with them mean ours.
    for command in (["export", "n", "--onnx", "--max-drop", "100"], ["verify"], ["eval", "n/onnx-fp32"]):
        done = zoo(env, tmp_path, *command)
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_name_that_two_claim_is_an_error_that_names_both(env: dict[str, str], tmp_path: Path) -> None:
    done = zoo(env, tmp_path, "train", "tiny", "--dataset", "digits", "--dry-run")
    assert done.returncode == 1
    assert "thief 1.0" in done.stderr
    assert "edgezoo 0.1.0" in done.stderr
    assert "edgezoo/digits" in done.stderr
    for name in ("edgezoo/digits", "thief/digits", "goodone"):
        assert zoo(env, tmp_path, "train", "tiny", "--dataset", name, "--dry-run").returncode == 0


@pytest.mark.parametrize("command", [["list", "models"], ["list", "datasets"], ["show", "model", "test_resnet"]])
def test_other_commands_do_not_notice(command: list[str], env: dict[str, str], tmp_path: Path) -> None:
    done = zoo(env, tmp_path, *command)
    assert done.returncode == 0, done.stderr
    assert not done.stderr


def test_a_plugin_that_was_mended_is_tried_again(env: dict[str, str], tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    install(site, Bad("mendable", "raise RuntimeError('not yet')\n" + GOOD.source, ""))
    own = {**env, "PYTHONPATH": str(site)}
    command = ["train", "tiny", "--dataset", "mendable", "--dry-run"]
    assert "not yet" in zoo(own, tmp_path, *command).stderr
    (site / "mendable.py").write_text(GOOD.source)
    assert zoo(own, tmp_path, *command).returncode == 0
