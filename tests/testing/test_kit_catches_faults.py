"""A mutation test of the kit: for every promise plugins that break it, and a good one that passes."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.testing import (
    faults_augmentation,
    faults_backbone,
    faults_dataset,
    faults_exporter,
    faults_tracker,
)
from zoo.catalogue.installed import GROUPS
from zoo.testing.augmentation import AugmentationContract
from zoo.testing.backbone import BackboneContract
from zoo.testing.contract import Contract
from zoo.testing.dataset import DatasetContract
from zoo.testing.exporter import ExporterContract
from zoo.testing.tracker import TrackerContract

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

HERE = Path(__file__).parent
KINDS: dict[type[Contract], ModuleType] = {
    DatasetContract: faults_dataset,
    AugmentationContract: faults_augmentation,
    BackboneContract: faults_backbone,
    ExporterContract: faults_exporter,
    TrackerContract: faults_tracker,
}
SUITES_BY_COST = [
    # These two train and export for each fault.
    pytest.param(suite, id=suite.__name__, marks=[pytest.mark.slow] if suite.kind in ("backbone", "exporter") else [])
    for suite in KINDS
]
OPPOSITES = {
    # Fixture that is turned -> the plugin that it is wrong for, the promise, the one that it is right for.
    DatasetContract: ("states_license", "good", "test_its_license_is_stated", "states_no_license"),
    AugmentationContract: ("is_random", "good", "test_another_seed_gives_another_picture", "plain"),
    TrackerContract: ("keeps_in_run", "good", "test_it_keeps_what_it_hears", "remote"),
}
SUITES = """
import pytest
from zoo.catalogue import Catalogue
from zoo.catalogue.isolation.probe import Verdict, _remember
from zoo.testing import {suite}


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory):
    # The faults of one module need not each be tried apart; the good plugin's promise about imports tries it.
    folder = tmp_path_factory.mktemp("shared-home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_HOME", str(folder))
        for plugin in Catalogue.read().plugins:
            if plugin.entry_point.module == "{module}":
                _remember(plugin, Verdict())
    return folder


class Faulty({suite}):
    @pytest.fixture(autouse=True)
    def home(self, shared_home, monkeypatch):
        monkeypatch.setenv("ZOO_HOME", str(shared_home))
        return shared_home

    @pytest.fixture
    def image_size(self):
        return 32


class Test_good(Faulty):
    name = "faulty/good"
"""
APART = {"prepared", "again", "elsewhere"}
"""Fixtures of datasets that come from a new process."""
HERE_ONLY = """
    @pytest.fixture
    def prepared(self):
        return None
"""
"""For promises that look at what comes in this process, where half a second for each fault would be wasted."""
SUITE = """

class Test_{test}(Faulty):
    name = "faulty/{name}"
"""
TURNED = """
    @pytest.fixture
    def {fixture}(self):
        return False
"""


@dataclass(frozen=True)
class Case:
    """What became of one test."""

    failed: bool
    says: str
    """How it failed: the error's type, and its text."""


def install(site: Path, suite: type[Contract], faults: ModuleType) -> None:
    """Lay the faulty plugins of a kind into `site`, as a distribution that is installed."""
    module = faults.__name__.rpartition(".")[2]
    (site / f"{module}.py").write_bytes((HERE / f"{module}.py").read_bytes())
    plain = ["good", *(turned[3] for kind, turned in OPPOSITES.items() if kind is suite)]
    values = {name: f"{module}:{name}" for name in [*plain, *faults.FAULTS]}
    for name, source in faults.SOURCES.items():
        (site / f"{name}.py").write_text(source)
        values[name] = f"{name}:plugin"
    info = site / "faulty-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n")
    lines = "".join(f"{name} = {value}\n" for name, value in values.items())
    (info / "entry_points.txt").write_text(f"[{GROUPS[suite.kind]}]\n{lines}")


def run(suite: type[Contract], folder: Path) -> dict[str, dict[str, Case]]:
    """Run a suite over a kind's faults, each with the promise that it breaks; class -> test -> what became of it."""
    faults = KINDS[suite]
    site = folder / "site"
    site.mkdir(parents=True)
    install(site, suite, faults)
    file = folder / "test_faults.py"
    text = SUITES.format(suite=suite.__name__, module=faults.__name__.rpartition(".")[2])
    wanted = ["Test_good"]
    for fault, promise in faults.FAULTS.items():
        text += SUITE.format(test=fault, name=fault)
        if suite is DatasetContract and not APART & inspect.signature(getattr(suite, promise)).parameters.keys():
            text += HERE_ONLY
        wanted.append(f"Test_{fault}::{promise}")
    if suite in OPPOSITES:
        fixture, wrong, promise, right = OPPOSITES[suite]
        for test, name in (("turned_wrong", wrong), ("turned_right", right)):
            text += SUITE.format(test=test, name=name) + TURNED.format(fixture=fixture)
            wanted.append(f"Test_{test}::{promise}")
    file.write_text(text)
    (folder / "wanted").write_text("".join(f"{file}::{test}\n" for test in wanted))
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(folder)]
    command += ["-p", "no:cacheprovider"]
    command += ["--junitxml", str(folder / "report.xml"), "--basetemp", str(folder / "tmp"), f"@{folder / 'wanted'}"]
    env = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=400)
    assert (folder / "report.xml").is_file(), done.stdout[-3000:] + done.stderr[-3000:]
    found: dict[str, dict[str, Case]] = {}
    for case in ET.parse(folder / "report.xml").iter("testcase"):
        bad = [node for node in case if node.tag in ("failure", "error")]
        says = "\n".join(f"{node.get('message')}\n{node.text}" for node in bad)
        name = case.get("classname", "").rpartition(".")[2].removeprefix("Test_")
        found.setdefault(name, {})[case.get("name", "")] = Case(bool(bad), says)
    return found


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Callable[[type[Contract]], dict[str, dict[str, Case]]]:
    made: dict[type[Contract], dict[str, dict[str, Case]]] = {}

    def results_of(suite: type[Contract]) -> dict[str, dict[str, Case]]:
        if suite not in made:
            made[suite] = run(suite, tmp_path_factory.mktemp(suite.__name__) / "run")
        return made[suite]

    return results_of


Results = dict[str, dict[str, Case]]


def raised(case: Case) -> set[str]:
    """Return the names of the errors that a test ended with, as pytest marks them: `E   ValueError: ...`.

    An assertion that tells of an error in a new process counts as that error.
    """
    lines = [line[1:].strip() for line in case.says.splitlines() if line.startswith("E ")]
    lines = [line.partition("in a new process it raises ")[2] or line for line in lines]
    found = {line.partition(":")[0].rpartition(".")[2] for line in lines if ":" in line or line.isidentifier()}
    bare = {"AssertionError"} if any(line.startswith("assert ") for line in lines) else set()
    return {name for name in found if name.isidentifier()} | (bare if "raises" not in case.says else set())


def promises(suite: type[Contract]) -> set[str]:
    return {name for name in dir(suite) if name.startswith("test_")}


@pytest.mark.slow
@pytest.mark.parametrize("suite", SUITES_BY_COST)
def test_each_fault_breaks_its_promise(suite: type[Contract], results: Callable[[type[Contract]], Results]) -> None:
    faults, found = KINDS[suite], results(suite)
    wrong = []
    for fault, promise in faults.FAULTS.items():
        case = found.get(fault, {}).get(promise)
        if case is None or not case.failed:
            wrong.append(f"{fault}: {promise} {'passed' if case else 'did not run'}")
        elif not raised(case) & {*faults.RAISES.get(fault, ("AssertionError",))}:
            wrong.append(f"{fault}: {promise} failed for another reason: {sorted(raised(case))}, {case.says[:300]}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("suite", SUITES_BY_COST)
def test_a_good_plugin_keeps_every_promise(suite: type[Contract], results: Callable[[type[Contract]], Results]) -> None:
    found = results(suite)["good"]
    assert found.keys() == promises(suite)
    broken = [f"{name}: {case.says[:2000]}" for name, case in found.items() if case.failed]
    assert not broken, "\n".join(broken)


@pytest.mark.slow
@pytest.mark.parametrize("suite", OPPOSITES, ids=lambda suite: suite.__name__)
def test_what_a_plugin_says_it_cannot_do_is_checked_too(
    suite: type[Contract], results: Callable[[type[Contract]], Results]
) -> None:
    _, _, promise, _ = OPPOSITES[suite]
    found = results(suite)
    assert found["turned_wrong"][promise].failed
    assert "AssertionError" in raised(found["turned_wrong"][promise])
    assert not found["turned_right"][promise].failed, found["turned_right"][promise].says


def test_every_promise_has_a_fault() -> None:
    common = promises(Contract)
    for suite, faults in KINDS.items():
        assert promises(suite) - common <= set(faults.FAULTS.values())
        assert set(faults.FAULTS.values()) <= promises(suite)
    assert common <= {promise for faults in KINDS.values() for promise in faults.FAULTS.values()}


def test_there_are_at_least_70_faults() -> None:
    assert sum(len(faults.FAULTS) for faults in KINDS.values()) >= 70
