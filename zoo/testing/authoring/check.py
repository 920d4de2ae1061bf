"""The contract run against a plugin, in a process of its own with a time limit; each promise gets a verdict."""

from __future__ import annotations

import importlib.util
import os
import tempfile
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.catalogue.installed import GROUPS, OURS
from zoo.errors import EnvironmentBroken, PluginBroken, UnknownName
from zoo.testing.authoring.judge import Suite, Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from zoo.catalogue import Catalogue

SUITES = {
    "dataset": "DatasetContract",
    "augmentation": "AugmentationContract",
    "backbone": "BackboneContract",
    "exporter": "ExporterContract",
    "tracker": "TrackerContract",
}
OPTIONS = """
    @pytest.fixture
    def options(self, known_options):
        return check({options!r}, known_options, self.name)
"""


def check_plugin(
    catalogue: Catalogue,
    asked: str | None,
    *,
    options: Mapping[str, str],
    seconds: float,
    hear: Callable[[Verdict], None] = lambda verdict: None,
) -> list[Verdict]:
    """Run the contract against a plugin.

    Args:
        catalogue: What is installed.
        asked: A plugin's name, a distribution's, the folder of a package that need not be installed; None for every
            plugin that is not ours.
        options: For the plugin, in place of its defaults.
        seconds: The time limit.
        hear: Called with each verdict as it comes.

    Raises:
        UnknownName: nothing of that name.
        PluginBroken: the folder is no package with plugins.
        EnvironmentBroken: pytest is not installed.
    """
    if importlib.util.find_spec("pytest") is None:
        raise EnvironmentBroken("`zoo plugin check` needs pytest; run `pip install 'edgezoo[testing]'`")
    with tempfile.TemporaryDirectory(prefix="zoo-check-") as name:
        scratch = Path(name)
        if asked and (os.sep in asked or asked.startswith(".")) and Path(asked).is_dir():
            suite = _of_package(Path(asked).resolve(), scratch, options)
        else:
            suite = _of_names(_installed(catalogue, asked), scratch, options)
        return judge(suite, scratch, seconds, hear)


def _installed(catalogue: Catalogue, asked: str | None) -> list[tuple[str, str]]:
    """Return kind and full name of what is asked for."""
    plugins = [p for p in catalogue.plugins if p.kind in SUITES]
    if asked is None:
        found = [p for p in plugins if p.distribution != OURS]
        if not found:
            raise UnknownName(f"no other package brings a plugin; name one of zoo's own: {plugins[0].name}, ...")
    else:
        found = [p for p in plugins if asked in (p.name, p.full_name, p.distribution)]
    if not found and asked:
        catalogue.backbone(asked)  # a member of a family, or an error with close matches
        return [("backbone", asked)]
    return [(p.kind, p.full_name) for p in found]


def _of_names(plugins: list[tuple[str, str]], scratch: Path, options: Mapping[str, str]) -> Suite:
    tests = scratch / "test_contract.py"
    suites = ", ".join(sorted({SUITES[kind] for kind, _ in plugins}))
    parts = [f"import pytest\nfrom zoo.catalogue.options import check\nfrom zoo.testing import {suites}\n"]
    names = {f"Test{number}": name for number, (_, name) in enumerate(plugins)}
    for test, (kind, name) in zip(names, plugins, strict=True):
        parts.append(f"\n\nclass {test}({SUITES[kind]}):\n    name = {name!r}\n")
        if options:
            parts.append(OPTIONS.format(options=dict(options)))
    tests.write_text("".join(parts))
    return Suite(tests, names=names)


def _of_package(folder: Path, scratch: Path, options: Mapping[str, str]) -> Suite:
    """Lend a package the look of an installed one, for the process that tests it; its own tests know what it can do."""
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    except (OSError, KeyError, ValueError) as exc:
        raise PluginBroken(f"{folder} is no package: its pyproject.toml cannot be read ({exc})") from exc
    groups = {kind: project.get("entry-points", {}).get(group, {}) for kind, group in GROUPS.items()}
    if not any(groups.values()):
        raise PluginBroken(f"{folder}/pyproject.toml names no plugin; add an entry point, for example zoo.datasets")
    name = project.get("name", folder.name)
    info = scratch / "site" / f"{name}-0.dist-info"
    info.mkdir(parents=True)
    metadata = {"Metadata-Version": "2.4", "Name": name, "Version": project.get("version", "0")}
    (info / "METADATA").write_text("".join(f"{key}: {value}\n" for key, value in metadata.items()))
    lines = [line for kind, found in groups.items() for line in _section(GROUPS[kind], found)]
    (info / "entry_points.txt").write_text("\n".join(lines))
    path = (info.parent, *(p for p in (folder / "src", folder) if p.is_dir()))
    own = folder / "tests"
    if not options and any("zoo.testing" in file.read_text() for file in own.rglob("test_*.py")):
        return Suite(own, path)
    plugins = [(kind, f"{name}/{plugin}") for kind, found in groups.items() if kind in SUITES for plugin in found]
    return replace(_of_names(plugins, scratch, options), path=path)


def _section(group: str, entry_points: Mapping[str, str]) -> list[str]:
    return [f"[{group}]", *(f"{name} = {value}" for name, value in entry_points.items())]
