"""`golden.npz`: a few of the proof's images, and what two runtimes answered; whoever asks again must get the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from zoo.disk.files import write_atomic
from zoo.errors import ArtifactInvalid
from zoo.runtime.golden import GOLDEN

if TYPE_CHECKING:
    from pathlib import Path


class Golden(BaseModel):
    """A few of the proof's images as the graph takes them, and what two runtimes answered.

    For a file that resizes they are of a size that is not the model's.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    images: np.ndarray
    """uint8 [n, H, W, 3]."""
    labels: np.ndarray
    """int64 [n], or uint8 [n, C] if multi-label."""
    reference: np.ndarray
    """float32 [n, C]: eager fp32."""
    artifact: np.ndarray
    """float32 [n, C]: the model file in its own runtime."""


def read_golden(folder: Path) -> Golden:
    """Read `golden.npz` of an artifact.

    Raises:
        ArtifactInvalid: missing or damaged.
    """
    try:
        with np.load(folder / GOLDEN, allow_pickle=False) as arrays:
            return Golden(**{name: arrays[name] for name in Golden.model_fields})
    except (OSError, ValueError, KeyError) as exc:
        raise ArtifactInvalid(f"{folder / GOLDEN} is damaged: {exc}; export again") from exc


def write_golden(folder: Path, golden: Golden) -> None:
    """Write `golden.npz`."""
    write_atomic(folder / GOLDEN, lambda file: np.savez_compressed(file, **golden.model_dump()))
