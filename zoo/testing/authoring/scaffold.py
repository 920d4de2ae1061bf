"""A new plugin: a complete package from templates, which installs and passes its tests as it is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.catalogue.installed import GROUPS
from zoo.disk.files import scratch_folder, sync_folder
from zoo.errors import DuplicateName, EnvironmentBroken, OptionInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zoo.catalogue import Catalogue

TEMPLATES = Path(__file__).with_name("templates")
LONGEST_NAME = 50
"""In characters; files, the distribution and the module are named after it, and systems set limits to those."""

ATTRIBUTES = {
    "dataset": "make_{identifier}",
    "augmentation": "make_{identifier}",
    "backbone": "make_{identifier}",
    "exporter": "{camel}Exporter",
    "tracker": "{camel}Tracker",
}
"""Kind -> what the entry point names; never the bare name, which may be a keyword or hide an import."""

DEPENDENCIES = {
    "dataset": ("edgezoo", "numpy", "pillow"),
    "augmentation": ("edgezoo", "albumentations", "opencv-python-headless"),
    "backbone": ("edgezoo", "torch"),
    "exporter": ("edgezoo", "numpy", "torch"),
    "tracker": ("edgezoo",),
}
"""Kind -> the distributions that its module imports."""

KINDS = tuple(ATTRIBUTES)


@dataclass(frozen=True, kw_only=True)
class NewPackage:
    """A package that was written."""

    folder: Path
    files: tuple[str, ...]
    """Relative to the folder, sorted."""
    group: str
    name: str
    value: str
    """Of the entry point: MODULE:ATTRIBUTE."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        entry_point = {"group": self.group, "name": self.name, "value": self.value}
        return {"package": str(self.folder), "files": list(self.files), "entry_point": entry_point}


def new_package(catalogue: Catalogue, name: str, kind: str, into: Path) -> NewPackage:
    """Write the package `zoo-plugin-NAME` into a folder: all of it, or nothing.

    Raises:
        OptionInvalid: there is no such kind, or the name cannot be one.
        DuplicateName: something installed has that name.
        EnvironmentBroken: the folder exists, or cannot be written.
    """
    if kind not in KINDS:
        raise OptionInvalid(f"kind {kind!r} does not exist; choose {', '.join(KINDS)}")
    _check_name(name)
    _check_free(catalogue, name, kind)
    facts = _facts(name, kind)
    folder = into / facts["distribution"]
    files = _render(facts)
    _write(folder, files)
    value = f"{facts['module']}:{facts['attribute']}"
    return NewPackage(folder=folder, files=tuple(sorted(files)), group=facts["group"], name=name, value=value)


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise OptionInvalid(
            f"{name!r} cannot name a plugin; use lower-case letters, digits and single dashes between them, "
            "with a letter first"
        )
    if len(name) > LONGEST_NAME:
        raise OptionInvalid(f"a plugin's name of {len(name)} characters is too long; use {LONGEST_NAME} or fewer")


def _check_free(catalogue: Catalogue, name: str, kind: str) -> None:
    """Refuse a name that would be ambiguous at once, or a package that would take the place of another."""
    owners = [p.owner for p in catalogue.of_kind(kind) if p.name == name]
    if kind == "backbone":
        owners += ["registry.toml"] if name in catalogue.registry.models else []
        owners += [plugin.owner for plugin in catalogue.families_with(name)]
    if owners:
        raise DuplicateName(f"{kind} {name!r} is there already, from {' and '.join(owners)}; choose another name")
    distribution = f"zoo-plugin-{name}"
    others = [p for p in catalogue.plugins if re.sub(r"[-_.]+", "-", p.distribution).lower() == distribution]
    if others:
        raise DuplicateName(
            f"{distribution} is installed already, with the {others[0].kind} {others[0].name!r}; choose another name"
        )


def _facts(name: str, kind: str) -> dict[str, Any]:
    identifier = name.replace("-", "_")
    camel = "".join(part.capitalize() for part in name.split("-"))
    return {
        "name": name,
        "kind": kind,
        "distribution": f"zoo-plugin-{name}",
        "identifier": identifier,
        "camel": camel,
        "module": f"zoo_plugin_{identifier}",
        "attribute": ATTRIBUTES[kind].format(identifier=identifier, camel=camel),
        "group": GROUPS[kind],
        "dependencies": DEPENDENCIES[kind],
    }


def _render(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return each file's path in the package, and its text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = {
        "pyproject.toml": "common/pyproject.toml.j2",
        "README.md": "common/README.md.j2",
        "LICENSE": "common/LICENSE.j2",
        ".gitignore": "common/gitignore.j2",
        ".github/workflows/test.yml": "common/test.yml.j2",
        f"{facts['module']}.py": f"{facts['kind']}.py.j2",
        f"tests/test_{facts['identifier']}.py": f"test_{facts['kind']}.py.j2",
    }
    # Nothing is escaped: what comes out is Python, TOML and Markdown, and all that goes in is a checked name.
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    return {path: environment.get_template(template).render(facts) for path, template in templates.items()}


def _write(folder: Path, files: Mapping[str, str]) -> None:
    """Write all files beside `folder`, then give it its name, which must be free."""
    try:
        _check_place(folder)
        with scratch_folder(folder) as scratch:
            for path, text in files.items():
                file = scratch / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8", newline="\n")
            _check_place(folder)
            scratch.rename(folder)
        sync_folder(folder.parent)
    except OSError as exc:
        raise EnvironmentBroken(
            f"cannot write {folder}: {exc.strerror or exc}; free space or choose another place with --into"
        ) from exc


def _check_place(folder: Path) -> None:
    # Also a link to nowhere, which `exists` does not see.
    if folder.exists() or folder.is_symlink():
        raise EnvironmentBroken(f"{folder} exists already; remove it, or choose another name or another --into")
