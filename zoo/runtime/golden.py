"""Replaying golden vectors: do the images that the proof kept get the same answers on this machine?"""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import BundleError

if TYPE_CHECKING:
    from pathlib import Path

    from .model import Model

GOLDEN = "golden.npz"
LIMITS = {"fp32": 1e-4, "fp16": 1e-2, "int8-weights": 1e-3, "int4-weights": 1e-3}
LIMIT_INT8 = 5e-2
"""Other processors round int8 differently; on the same one the answers are the same."""


def limit_of(precision: str) -> float:
    """Return by how much a probability may differ on another machine."""
    return LIMITS.get(precision, LIMIT_INT8)


@dataclass(frozen=True)
class Replay:
    """What came out, beside what the proof had."""

    images: int
    same_top1: int
    """Images whose most probable class, or set of labels, is the same."""
    difference: float
    """The largest, of a probability."""
    limit: float

    @property
    def ok(self) -> bool:
        """Whether this machine answers as the proof's did."""
        return self.difference <= self.limit and self.same_top1 == self.images

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"ok": self.ok, **asdict(self)}

    def __str__(self) -> str:
        verdict = "the same answers as in the proof" if self.ok else "NOT the answers of the proof"
        return (
            f"{verdict}: {self.same_top1} of {self.images} golden images keep their class, "
            f"largest difference {self.difference:.2g} (limit {self.limit:g})"
        )


def read_golden(folder: Path) -> dict[str, np.ndarray]:
    """Return `images` uint8 [n, H, W, 3], `labels`, `reference` and `artifact` float32 [n, C].

    Raises:
        BundleError: missing or damaged.
    """
    try:
        with np.load(io.BytesIO((folder / GOLDEN).read_bytes()), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in ("images", "labels", "reference", "artifact")}
    except Exception as exc:  # zipfile, zlib and numpy each have types of their own
        raise BundleError(f"{folder / GOLDEN} is damaged ({exc}); copy the bundle once more") from exc


def replay(model: Model) -> Replay:
    """Ask the golden images again, one by one, as a device does."""
    golden = read_golden(model.folder)
    found = np.concatenate([model.ask([image])[0] for image in golden["images"]])
    wanted = golden["artifact"]
    if found.shape != wanted.shape:
        raise BundleError(f"{model.folder} gives {found.shape[1]} classes, its golden vectors have {wanted.shape[1]}")
    return Replay(
        images=len(wanted),
        same_top1=int((_said(model, found) == _said(model, wanted)).all(1).sum()),
        difference=float(np.abs(found - wanted).max()),
        limit=limit_of(model.manifest.precision),
    )


def _said(model: Model, probabilities: np.ndarray) -> np.ndarray:
    """Return bool [N, C]: what is said of each image."""
    if model.manifest.thresholds is not None:
        return np.asarray(probabilities >= np.array(model.manifest.thresholds, np.float32))
    return np.asarray(probabilities.argmax(1)[:, None] == np.arange(probabilities.shape[1]))
