"""Evaluate whatever was named: a run's best weights in PyTorch, or an artifact in its own runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.data.loader import evaluation_batches
from zoo.evaluate.labels import thresholds_of
from zoo.evaluate.metrics import metrics_of
from zoo.runs.artifact import Artifact
from zoo.runs.find import run_of
from zoo.runs.score import eager, probabilities
from zoo.runs.trained import load_trained

if TYPE_CHECKING:
    from zoo.catalogue import Catalogue
    from zoo.runs.run import Run


def evaluate(catalogue: Catalogue, subject: Run | Artifact, split: str) -> dict[str, Any]:
    """Return `metrics_of` one split of the run's own data; labels are judged at the subject's own thresholds.

    An artifact with the output `unknown` adds that key: the share of the images, in 0..1, that it calls so.

    Raises:
        RunInvalid, ArtifactInvalid, DatasetInvalid: the run, the artifact or the data is not what it was.
    """
    artifact = subject if isinstance(subject, Artifact) else None
    run = run_of(subject) if isinstance(subject, Artifact) else subject
    trained = load_trained(catalogue, run)
    predict = artifact.open(catalogue) if artifact else eager(trained.shipped)
    images = trained.data.splits[split]
    preprocess = None if artifact and artifact.manifest().resize_in_graph else trained.preprocess
    scores = probabilities(predict, images, preprocess, workers=trained.workers)
    thresholds = thresholds_of(artifact.manifest() if artifact else trained.record)
    metrics = metrics_of(images.labels, scores, trained.record.classes, thresholds)
    if artifact and artifact.manifest().unknown:
        predictor: Any = predict
        told = [
            predictor.with_unknown(batch)[1]
            for batch, _ in evaluation_batches(images, preprocess, workers=trained.workers)
        ]
        metrics["unknown"] = float(np.concatenate(told).mean())
    return metrics
