"""A run or an artifact on one of its splits -> accuracy and every other figure (`zoo eval`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.evaluation.metrics import metrics_of
from zoo.exporting.subject import open_subject
from zoo.records.artifact import Artifact
from zoo.records.find import run_of
from zoo.records.trained import load_trained

if TYPE_CHECKING:
    from zoo.catalogue import Catalogue
    from zoo.records.run import Run


def evaluate(catalogue: Catalogue, found: Run | Artifact, split: str) -> dict[str, Any]:
    """Return `metrics_of` one split of the run's own data; labels are judged at the subject's own thresholds.

    An artifact with the output `unknown` adds that key: the share of the images, in 0..1, that it calls so.

    Raises:
        RunInvalid, ArtifactInvalid, DatasetInvalid: the run, the artifact or the data is not what it was.
    """
    trained = load_trained(catalogue, run_of(found) if isinstance(found, Artifact) else found)
    subject, images = open_subject(trained.catalogue, found), trained.data.splits[split]
    answers = subject.ask_split(images, workers=trained.workers)
    metrics = metrics_of(images.labels, answers.probabilities, subject.classes, subject.thresholds)
    return metrics if answers.unknown is None else {**metrics, "unknown": float(answers.unknown.mean())}
