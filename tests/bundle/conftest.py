"""A bundle of the tiny model, packed and unpacked."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from zoo.contracts.target import Target
from zoo.deploy.bundle.make import BundleSpec, bundle_artifact

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.deploy.bundle.make import Bundle
    from zoo.records.artifact import Artifact


@pytest.fixture(scope="session")
def made(onnx_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle for this machine; not to be changed."""
    return bundle_artifact(onnx_artifact, Target(), BundleSpec(out=tmp_path_factory.mktemp("bundle") / "digits.tar.gz"))


@pytest.fixture
def unpacked(made: Bundle, tmp_path: Path) -> Path:
    """The folder that tar makes of it."""
    subprocess.run(["tar", "xzf", made.path, "-C", tmp_path], check=True)
    return tmp_path / made.folder
