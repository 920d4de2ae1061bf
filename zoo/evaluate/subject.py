"""Evaluate whatever was named: a run's best weights in PyTorch, or an artifact in its own runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.artifact import Artifact
from zoo.evaluate.metrics import metrics_of
from zoo.evaluate.score import eager, probabilities
from zoo.find import run_of
from zoo.labels import thresholds_of
from zoo.trained import load_trained

if TYPE_CHECKING:
    from zoo.catalogue import Catalogue
    from zoo.run import Run


def evaluate(catalogue: Catalogue, subject: Run | Artifact, split: str) -> dict[str, Any]:
    """Return `metrics_of` one split of the run's own data; labels are judged at the subject's own thresholds.

    Raises:
        RunInvalid, ArtifactInvalid, DatasetInvalid: the run, the artifact or the data is not what it was.
    """
    artifact = subject if isinstance(subject, Artifact) else None
    run = run_of(subject) if isinstance(subject, Artifact) else subject
    trained = load_trained(catalogue, run)
    predict = artifact.open(catalogue) if artifact else eager(trained.shipped)
    images = trained.data.splits[split]
    scores = probabilities(predict, images, trained.preprocess, workers=trained.workers)
    thresholds = thresholds_of(artifact.manifest() if artifact else trained.record)
    return metrics_of(images.labels, scores, trained.record.classes, thresholds)
