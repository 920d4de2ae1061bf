"""What is in a bundle, as CycloneDX 1.6: the model, the data behind it, and the software that runs it."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

from zoo.deploy.bundle import browser
from zoo.runtime.manifest import RUNTIME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zoo.records.manifest import Manifest

SBOM = "sbom.cdx.json"
NAMESPACE = uuid.UUID("6f1c2f0e-7b39-5d0c-9f0e-3a4b5c6d7e8f")
UNKNOWN = "unknown"


def sbom(manifest: Manifest, name: str, packages: Mapping[str, str], sums: Mapping[str, str]) -> str:
    """Return the document; it has no date, so that the same bundle has the same bytes.

    Args:
        manifest: Of the artifact.
        name: Of the bundle.
        packages: Those that the device installs -> the version of the artifact's proof; or the page's own.
        sums: The bundle's files so far -> their SHA-256.
    """
    made = manifest.lineage.get("versions", {})
    model = {
        **_component("machine-learning-model", name, manifest.lineage["weights"][:12], manifest.licenses["weights"]),
        "hashes": [{"alg": "SHA-256", "content": sums[manifest.model_file]}],
        "modelCard": {"modelParameters": {"task": "image classification", "datasets": [{"ref": "dataset"}]}},
        "properties": [
            {"name": f"zoo:{key}", "value": str(value)}
            for key, value in (
                ("precision", manifest.precision),
                ("weights sha256", manifest.lineage["weights"]),
                (f"top-1 on the images of {manifest.report.split}", manifest.report.artifact_top1),
            )
        ],
    }
    data = _component("data", "dataset", manifest.lineage["dataset_fingerprint"][:12], manifest.licenses["data"]) | {
        "data": [{"type": "dataset", "name": "training and validation images"}]
    }
    runtime = _component("library", RUNTIME, made.get("edgezoo", UNKNOWN), manifest.licenses["code"])
    libraries = [
        {**_component("library", package, version, ""), "purl": f"pkg:{_registry(package)}/{package.lower()}@{version}"}
        for package, version in packages.items()
    ]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(NAMESPACE, json.dumps(dict(sorted(sums.items()))))}",
        "version": 1,
        "metadata": {"component": model},
        "components": [data, runtime, *libraries],
        "dependencies": [
            {"ref": name, "dependsOn": ["dataset", RUNTIME]},
            {"ref": RUNTIME, "dependsOn": list(packages)},
        ],
    }
    return json.dumps(document, indent=2) + "\n"


def _component(kind: str, name: str, version: str, license_: str) -> dict[str, Any]:
    stated = {"licenses": [{"expression": license_}]} if _is_spdx(license_) else {}
    return {"type": kind, "bom-ref": name, "name": name, "version": version, **stated}


def _registry(package: str) -> str:
    return "npm" if package == browser.RUNTIME else "pypi"


def _is_spdx(license_: str) -> bool:
    """Tell an expression from a free text, which CycloneDX does not take there."""
    return bool(license_) and all(part.replace("-", "").replace(".", "").isalnum() for part in license_.split())
