"""A run or an artifact, opened: one thing to ask, whichever was named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from zoo.contracts.preprocess import Preprocess
from zoo.data.decode import to_rgb
from zoo.data.loader import evaluation_batches
from zoo.evaluation.labels import thresholds_of
from zoo.records.answers import eager
from zoo.records.artifact import Artifact
from zoo.records.trained import shipped_model

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.catalogue import Catalogue
    from zoo.contracts.plugins import Image, Predictor, Split
    from zoo.records.run import Run


class Answers(NamedTuple):
    """What a subject says of some images."""

    probabilities: np.ndarray
    """float32 [N, C]."""
    unknown: np.ndarray | None
    """bool [N]: which images are like none that it knows; None of a subject that does not tell."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A run's best weights in PyTorch, or an artifact in its own runtime."""

    path: Path
    predict: Predictor
    classes: tuple[str, ...]
    preprocess: Preprocess
    thresholds: np.ndarray | None
    """float64 [C]; None where an image has exactly one label."""
    resizes: bool = False
    """Whether it takes images as they are, one by one."""
    tells_unknown: bool = False

    def pixels(self, image: Image) -> np.ndarray:
        """Return what it takes of an image: uint8 [height, width, 3].

        Raises:
            ImageUnreadable: the image is none, or not complete.
        """
        rgb = to_rgb(image)
        return rgb if self.resizes else self.preprocess.prepare(rgb)

    def ask(self, pixels: np.ndarray) -> Answers:
        """Ask about uint8 [N, height, width, 3]."""
        if not self.tells_unknown:
            return Answers(self.predict(pixels), None)
        predictor: Any = self.predict
        return Answers(*predictor.with_unknown(pixels))

    def ask_split(self, split: Split, *, workers: int = 0) -> Answers:
        """Ask about every image of a split, in order, in one pass."""
        preprocess = None if self.resizes else self.preprocess
        found = [self.ask(images) for images, _ in evaluation_batches(split, preprocess, workers=workers)]
        probabilities, unknown = zip(*found, strict=True)
        return Answers(np.concatenate(probabilities), np.concatenate(unknown) if self.tells_unknown else None)


def open_subject(catalogue: Catalogue, found: Run | Artifact) -> Subject:
    """Open what was named.

    Raises:
        RunInvalid, ArtifactInvalid: it cannot be used.
    """
    if isinstance(found, Artifact):
        manifest = found.manifest()
        return Subject(
            path=found.path,
            predict=found.open(catalogue),
            classes=manifest.classes,
            preprocess=Preprocess.from_json(manifest.preprocess),
            thresholds=thresholds_of(manifest),
            resizes=manifest.resize_in_graph,
            tells_unknown=manifest.unknown is not None,
        )
    record = found.record()
    return Subject(
        path=found.path,
        predict=eager(shipped_model(catalogue, found)[0]),
        classes=record.classes,
        preprocess=Preprocess.from_json(record.preprocess),
        thresholds=thresholds_of(record),
    )
