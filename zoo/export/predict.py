"""Image files -> the most probable classes or all labels over their thresholds, by a run's weights or an artifact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.contracts.preprocess import Preprocess
from zoo.data.decode import describe, to_rgb
from zoo.errors import ContractBroken
from zoo.evaluate.labels import chosen, thresholds_of
from zoo.runs.artifact import Artifact
from zoo.runs.score import eager
from zoo.runs.trained import shipped_model
from zoo.runtime.model import Answer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from zoo.catalogue import Catalogue
    from zoo.contracts.plugins import Predictor
    from zoo.runs.manifest import Manifest
    from zoo.runs.record import RunRecord
    from zoo.runs.run import Run


def predict_files(catalogue: Catalogue, subject: Run | Artifact, files: Sequence[Path], *, top: int) -> list[Answer]:
    """Classify files one by one, in the order given.

    Raises:
        ImageUnreadable: a file that is no complete image; it is named, and nothing is answered for the others.
        RunInvalid, ArtifactInvalid: the run or the artifact cannot be used.
    """
    predict, described = _open(catalogue, subject)
    preprocess, thresholds = Preprocess.from_json(described.preprocess), thresholds_of(described)
    whole = getattr(described, "resize_in_graph", False)
    answers = []
    for file in files:
        image = to_rgb(file) if whole else preprocess.prepare(to_rgb(file))
        probabilities, unknown = _ask(predict, described, image)
        if not np.isfinite(probabilities).all():
            raise ContractBroken(
                f"{subject.path} gave an answer that is not finite for {describe(file)}; run `zoo verify`"
            )
        ranked = [(described.classes[i], float(probabilities[i])) for i in np.argsort(-probabilities, kind="stable")]
        said = {described.classes[i] for i in np.flatnonzero(chosen(probabilities[None], thresholds)[0])}
        labels = None if thresholds is None else tuple(pair for pair in ranked if pair[0] in said)
        answers.append(Answer(describe(file), tuple(ranked[:top]), labels, unknown))
    return answers


def _ask(predict: Predictor, described: Manifest | RunRecord, image: np.ndarray) -> tuple[np.ndarray, bool | None]:
    """Return one image's probabilities, float32 [C], and whether it is unknown."""
    if not getattr(described, "unknown", None):
        return predict(image[None])[0], None
    predictor: Any = predict
    probabilities, unknown = predictor.with_unknown(image[None])
    return probabilities[0], bool(unknown[0])


def _open(catalogue: Catalogue, subject: Run | Artifact) -> tuple[Predictor, Manifest | RunRecord]:
    if isinstance(subject, Artifact):
        return subject.open(catalogue), subject.manifest()
    shipped, _ = shipped_model(catalogue, subject)
    return eager(shipped), subject.record()
