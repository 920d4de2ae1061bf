"""What a person at the device reads: README, requirements, labels, licences."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined

from zoo.contracts.precision import row_of
from zoo.deploy.bundle.browser import PAGE
from zoo.records.facts import bounded
from zoo.runtime.session import EXACT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zoo.contracts.target import Target
    from zoo.records.manifest import Manifest

PACKAGES = {"numpy": "numpy>=1.22", "onnxruntime": "onnxruntime>=1.16", "Pillow": "Pillow>=9.1"}
"""What the runtime imports, by the name on PyPI, and from which version on it works."""
PYTHON = "3.9"
"""The oldest that the runtime's files are written for."""


def papers(manifest: Manifest, target: Target, name: str, names: list[str], *, signed: bool) -> dict[str, bytes]:
    """Return the papers of a bundle called `name` that holds the files `names`."""
    precision = row_of(manifest.precision)
    required = PACKAGES | ({"onnxruntime": precision.needs} if precision.needs else {})
    had = versions_of_proof(manifest)
    environment = Environment(
        loader=PackageLoader("zoo.deploy.bundle"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
    )
    readme = environment.get_template("README.md.j2").render(
        manifest=manifest,
        report=manifest.report,
        target=target,
        name=name,
        names=names,
        exact=EXACT,
        bounded=bounded(manifest.report),
        limit=precision.golden_limit,
        python=PYTHON,
        signed=signed,
        page=PAGE in names,
    )
    licenses = environment.get_template("LICENSES.md.j2").render(licenses=manifest.licenses, page=PAGE in names)
    lines = [f"{line}  # its proof had {had.get(package, 'an unknown version')}" for package, line in required.items()]
    return {
        "README.md": readme.encode(),
        "LICENSES.md": licenses.encode(),
        "LICENSE": own_license().encode(),
        "requirements.txt": ("\n".join(lines) + "\n").encode(),
        "labels.txt": ("\n".join(manifest.classes) + "\n").encode(),
    }


def versions_of_proof(manifest: Manifest) -> Mapping[str, str]:
    """Return package -> the version of the artifact's proof, where that is known."""
    made = manifest.lineage.get("versions", {})
    found = {
        "numpy": made.get("numpy"),
        "onnxruntime": made.get("onnxruntime") or made.get("onnxruntime-gpu"),
        "Pillow": made.get("pillow"),
    }
    return {name: version for name, version in found.items() if version}


def own_license() -> str:
    """Return the text of the licence that the runtime's files are under."""
    text = importlib.metadata.distribution("edgezoo").read_text("licenses/LICENSE")
    return text or "Apache License, Version 2.0: https://www.apache.org/licenses/LICENSE-2.0\n"
