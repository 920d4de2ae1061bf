"""What the proof's images look like to an artifact: what production is compared with. Numbers only, no picture."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from zoo.disk.files import write_json
from zoo.errors import ArtifactInvalid
from zoo.evaluation.labels import chosen
from zoo.runtime.statistics import NAMES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from zoo.records.artifact import Artifact

REFERENCE = "reference.json"
SCHEMA = 1
PARTS = 10
"""Into which the reference is cut, as even as its values allow."""
CONFIDENCE = "confidence"
"""Of the most probable class, or label."""


class Bins(BaseModel):
    """How often a number fell between two edges."""

    model_config = ConfigDict(frozen=True)

    edges: tuple[float, ...]
    """Rising; the first bin lies below the first one, a value on an edge counts below it."""
    counts: tuple[int, ...]
    """One more than edges."""

    def count(self, values: np.ndarray) -> np.ndarray:
        """Return how many of other values, float [N], fall into the same bins, int64 [bins]."""
        return np.bincount(np.searchsorted(self.edges, values, side="left"), minlength=len(self.counts))


class Reference(BaseModel):
    """`reference.json`."""

    model_config = ConfigDict(frozen=True)

    schema_version: int = SCHEMA
    split: str
    images: int
    classes: dict[str, int]
    """Class -> the images that it was said of."""
    numbers: dict[str, Bins]
    """`confidence`, and what `zoo.runtime.statistics` tells of an image."""
    unknown: int | None = None
    """The images that are called unknown; None where the file does not tell."""


def reference_of(
    split: str,
    classes: Sequence[str],
    probabilities: np.ndarray,
    thresholds: np.ndarray | None,
    statistics: np.ndarray,
) -> Reference:
    """Sum up what an artifact saw and said.

    Args:
        split: The images' name.
        classes: In the order of the probabilities.
        probabilities: float32 [N, C], the artifact's.
        thresholds: float64 [C]; None where an image has exactly one label.
        statistics: float [N, 4], in the order of `zoo.runtime.statistics.NAMES`.
    """
    said = chosen(probabilities, thresholds).sum(0)
    # A file that answers what is no number is refused, and kept to be looked at.
    numbers = {CONFIDENCE: np.nan_to_num(probabilities.max(1)), **dict(zip(NAMES, statistics.T, strict=True))}
    return Reference(
        split=split,
        images=len(probabilities),
        classes={name: int(count) for name, count in zip(classes, said, strict=True)},
        numbers={name: _bins(values) for name, values in numbers.items()},
    )


def _bins(values: np.ndarray) -> Bins:
    # Rounded, so that the same images give the same file on another machine as far as that can be.
    edges = np.unique(np.quantile(values, np.linspace(0, 1, PARTS + 1)[1:-1]).round(6))
    empty = Bins(edges=tuple(map(float, edges)), counts=(0,) * (len(edges) + 1))
    return empty.model_copy(update={"counts": tuple(map(int, empty.count(values)))})


def write_reference(folder: Path, reference: Reference) -> None:
    """Write `reference.json`."""
    write_json(folder / REFERENCE, reference.model_dump(mode="json"))


def read_reference(artifact: Artifact) -> Reference:
    """Read an artifact's reference.

    Raises:
        ArtifactInvalid: it has none, or it is damaged.
    """
    file = artifact.path / REFERENCE
    if not file.is_file():
        raise ArtifactInvalid(f"{artifact.path} has no {REFERENCE}: an older zoo made it; export it again")
    try:
        return Reference.model_validate(json.loads(file.read_bytes()))
    except (OSError, ValueError, RecursionError) as exc:
        detail = exc.errors()[0]["msg"] if isinstance(exc, ValidationError) else str(exc)
        raise ArtifactInvalid(f"{file} is damaged: {detail}; export again") from exc
