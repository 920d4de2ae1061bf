"""A bundle as a device has it: packed, and unpacked again."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING

from zoo.contracts.target import Target
from zoo.deploy.bundle.make import BundleSpec, bundle_artifact

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.records.artifact import Artifact


def unpacked_bundle(
    artifact: Artifact, folder: Path, target: Target | None = None, spec: BundleSpec | None = None
) -> Path:
    """Bundle an artifact for a target, this machine if none is named; return the folder that its archive holds."""
    made = bundle_artifact(artifact, target or Target(), spec or BundleSpec(out=folder / "bundle.tar.gz"))
    with tarfile.open(made.path) as archive:
        archive.extractall(folder, filter="data")
    return folder / made.folder
