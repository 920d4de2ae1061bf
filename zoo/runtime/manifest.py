"""The part of `artifact.json` that a device needs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import BundleError
from .sums import SUMS, check, read_sums

MANIFEST = "artifact.json"
RUNTIME = "zoo_runtime"
"""What a bundle calls this package; an artifact does not have it."""
SCHEMA = 1
THRESHOLD = 0.5
"""Of a label without one of its own."""


@dataclass(frozen=True)
class View:
    """How an image becomes the model's pixels; the arguments of `pixels.prepare`."""

    size: tuple[int, int]
    crop: str
    crop_fraction: float
    interpolation: str


@dataclass(frozen=True)
class Manifest:
    """What a model file takes and gives."""

    model_file: str
    precision: str
    classes: tuple[str, ...]
    view: View
    thresholds: tuple[float, ...] | None
    """Label -> the probability from which on it is said; None where an image has exactly one."""
    resizes: bool
    """Whether the file takes images as they are, one at a time."""
    tells_unknown: bool
    threads: int
    """Of its proof; 0 stands for all cores."""
    values: dict[str, Any]
    """All of `artifact.json`."""


def read_manifest(folder: Path) -> Manifest:
    """Check every file of a bundle or an artifact, then read its manifest.

    Raises:
        BundleError: a file is missing, changed or damaged, or of a later schema.
    """
    bundled = (folder / SUMS).exists() or (folder / RUNTIME).is_dir()
    if bundled:
        sums = read_sums(folder)
        if MANIFEST not in sums:
            raise BundleError(f"{folder / SUMS} does not list {MANIFEST}; copy the bundle once more")
        check(folder, sums)
    elif not (folder / MANIFEST).is_file():
        raise BundleError(f"{folder} holds no bundle and no artifact (no {MANIFEST}); name its folder")
    try:
        values = json.loads((folder / MANIFEST).read_bytes())
        manifest = _manifest(values)
        files = dict(values["files"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise BundleError(f"{folder / MANIFEST} is damaged ({type(exc).__name__}: {exc}); export it again") from exc
    if values["schema"] > SCHEMA:
        raise BundleError(
            f"{folder / MANIFEST} has schema {values['schema']}, newer than this runtime; bundle it again"
        )
    if Path(manifest.model_file).name != manifest.model_file or manifest.model_file not in (sums if bundled else files):
        raise BundleError(f"{folder / MANIFEST} names {manifest.model_file!r} as the model, which is none of its files")
    if not bundled:
        check(folder, files)
    return manifest


def _manifest(values: dict[str, Any]) -> Manifest:
    view, classes = values["preprocess"], tuple(map(str, values["classes"]))
    height, width = view["size"]
    own = values.get("thresholds") or {}
    return Manifest(
        model_file=str(values["model_file"]),
        precision=str(values["precision"]),
        classes=classes,
        view=View(
            (int(height), int(width)), str(view["crop"]), float(view["crop_fraction"]), str(view["interpolation"])
        ),
        thresholds=tuple(float(own.get(name, THRESHOLD)) for name in classes) if values.get("multi_label") else None,
        resizes=bool(values.get("resize_in_graph")),
        tells_unknown=bool(values.get("unknown")),
        threads=int(values["report"]["threads"]),
        values=values,
    )
