"""Image files -> the most probable classes, with a run's weights or an artifact in its own runtime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.artifact import Artifact
from zoo.data.decode import describe, to_rgb
from zoo.errors import ContractBroken
from zoo.evaluate.score import eager
from zoo.preprocess import Preprocess

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from zoo.catalogue import Catalogue
    from zoo.plugin import Predictor
    from zoo.run import Run


@dataclass(frozen=True)
class Answer:
    """One image's most probable classes, the most probable first."""

    image: str
    top: tuple[tuple[str, float], ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"image": self.image, "top": [{"class": name, "probability": p} for name, p in self.top]}


def predict_files(catalogue: Catalogue, subject: Run | Artifact, files: Sequence[Path], *, top: int) -> list[Answer]:
    """Classify files one by one, in the order given.

    Raises:
        ImageUnreadable: a file that is no complete image; it is named, and nothing is answered for the others.
        RunInvalid, ArtifactInvalid: the run or the artifact cannot be used.
    """
    predict, preprocess, classes = _open(catalogue, subject)
    pixels = [preprocess.prepare(to_rgb(file)) for file in files]
    answers = []
    for file, image in zip(files, pixels, strict=True):
        probabilities = predict(image[None])[0]
        if not np.isfinite(probabilities).all():
            raise ContractBroken(
                f"{subject.path} gave an answer that is not finite for {describe(file)}; run `zoo verify`"
            )
        best = np.argsort(-probabilities, kind="stable")[:top]
        answers.append(Answer(describe(file), tuple((classes[i], float(probabilities[i])) for i in best)))
    return answers


def _open(catalogue: Catalogue, subject: Run | Artifact) -> tuple[Predictor, Preprocess, tuple[str, ...]]:
    if isinstance(subject, Artifact):
        manifest = subject.manifest()
        return subject.open(catalogue), Preprocess.from_json(manifest.preprocess), manifest.classes
    record = subject.record()
    shipped, _ = subject.shipped_model(catalogue)
    return eager(shipped), Preprocess.from_json(record.preprocess), record.classes
