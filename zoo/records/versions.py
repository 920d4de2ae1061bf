"""What a run or an artifact was made with: interpreter, packages, commit, machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from typing import TYPE_CHECKING

from zoo.runtime.processor import processor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zoo.catalogue.installed import Plugin

PACKAGES = ("edgezoo", "torch", "timm", "albumentations", "onnx", "onnxruntime-gpu", "onnxruntime", "numpy", "pillow")


def versions(plugins: list[Plugin]) -> dict[str, str]:
    """Return the versions of python, the libraries that matter, and the distributions of `plugins`."""
    found = {"python": platform.python_version()}
    for package in (*PACKAGES, *(p.distribution for p in plugins)):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def changed_versions(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return one line for each package that a run began with in another version."""
    return [
        f"{name} was {version} when this run began, is {now.get(name, 'not installed')}: the end may differ"
        for name, version in before.items()
        if now.get(name) != version
    ]


def git_commit() -> str:
    """Return the commit of the current folder, empty outside a repository or without git."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def machine() -> dict[str, object]:
    """Return what a latency figure must be read with."""
    return {
        "processor": processor(),
        "arch": platform.machine(),
        "cores": os.cpu_count() or 0,
        "system": f"{platform.system()} {platform.release()}",
    }
