"""Labels and probabilities in, numbers out: of one label an image, or of several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.evaluation.labels import answered, chosen, right

if TYPE_CHECKING:
    from collections.abc import Sequence

CALIBRATION_BINS = 15


def metrics_of(
    labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], thresholds: np.ndarray | None = None
) -> dict[str, Any]:
    """Return `classification_metrics`, or with thresholds `label_metrics`, of one split."""
    if thresholds is None:
        return classification_metrics(labels, probabilities, classes)
    return label_metrics(labels, probabilities, classes, thresholds)


def classification_metrics(labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """Return what is worth knowing of a classifier on one split.

    Args:
        labels: int64 [N].
        probabilities: float32 [N, C].
        classes: The C names.

    Returns:
        images; top1, top5 (where there are more than 5 classes), macro_precision, macro_recall, macro_f1, all in 0..1;
        loss (mean cross-entropy in nats); ece (`expected_calibration_error`, in 0..1); per_class name -> precision,
        recall, f1, images; confusion[true][predicted] as counts. Precision of a class that was never predicted counts
        as 0.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    everything = np.arange(len(classes))
    predicted = probabilities.argmax(1)
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=everything, zero_division=0
    )
    metrics: dict[str, Any] = {
        "images": len(labels),
        "top1": top_k(labels, probabilities, 1),
        "loss": cross_entropy(labels, probabilities),
        "ece": expected_calibration_error(labels, probabilities),
        "macro_precision": float(precision.mean()),
        "macro_recall": float(recall.mean()),
        "macro_f1": float(f1.mean()),
    }
    if len(classes) > 5:
        metrics["top5"] = top_k(labels, probabilities, 5)
    metrics["per_class"] = {
        name: {"precision": float(p), "recall": float(r), "f1": float(f), "images": int(n)}
        for name, p, r, f, n in zip(classes, precision, recall, f1, support, strict=True)
    }
    metrics["confusion"] = confusion_matrix(labels, predicted, labels=everything).tolist()
    return metrics


def label_metrics(
    labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], thresholds: np.ndarray
) -> dict[str, Any]:
    """Return what is worth knowing where an image may have several labels, on one split.

    Args:
        labels: uint8 [N, C] in {0, 1}.
        probabilities: float32 [N, C].
        classes: The C names.
        thresholds: float64 [C]: a label is said where its probability reaches its own.

    Returns:
        images; map (mean average precision), exact (the share of images with all labels right), micro_f1 and macro_f1,
        all in 0..1; loss (mean binary cross-entropy over images and labels, in nats); ece (`expected_calibration_error`
        over the same, in 0..1); per_class name -> ap, precision, recall, f1, threshold, images (with that label);
        without_images, the labels that no image has: their ap is None, and map and macro_f1 leave them out. Precision
        of a label that was never said counts as 0.
    """
    from sklearn.metrics import f1_score, precision_recall_fscore_support

    said = chosen(probabilities, thresholds)
    precision, recall, f1, support = precision_recall_fscore_support(labels, said, average=None, zero_division=0)
    ap = average_precisions(labels, probabilities)
    there = support > 0
    return {
        "images": len(labels),
        "map": mean_average_precision(labels, probabilities),
        "exact": float(right(labels, probabilities, thresholds).mean()),
        "loss": binary_cross_entropy(labels, probabilities),
        "ece": expected_calibration_error(labels, probabilities),
        "micro_f1": float(f1_score(labels, said, average="micro", zero_division=0)),
        "macro_f1": float(f1[there].mean()) if there.any() else 0.0,
        "per_class": {
            name: {
                "ap": float(ap[i]) if there[i] else None,
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
                "threshold": float(thresholds[i]),
                "images": int(support[i]),
            }
            for i, name in enumerate(classes)
        },
        "without_images": [name for name, found in zip(classes, there, strict=True) if not found],
    }


def top_k(labels: np.ndarray, probabilities: np.ndarray, k: int) -> float:
    """Return the share of images whose label is among the k most probable classes; ties go to the lower index.

    A row that is not finite has no such classes.
    """
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return float(((best == labels[:, None]).any(1) & answered(probabilities)).mean())


def cross_entropy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean of -log of the label's probability, in nats; a probability of 0 counts as 1e-12."""
    right = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.clip(right, 1e-12, 1.0)).mean())


def binary_cross_entropy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean over images and labels, in nats; a probability of 0 for what is so counts as 1e-12."""
    of_truth = np.where(labels == 1, probabilities, 1.0 - probabilities.astype(np.float64))
    return float(-np.log(np.clip(of_truth, 1e-12, 1.0)).mean())


def average_precisions(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return float64 [C] in 0..1: the area under each label's precision-recall curve; NaN for one that no image has.

    A score that is not finite counts as the worst there can be.

    Args:
        labels: uint8 [N, C] in {0, 1}.
        probabilities: float32 [N, C].
    """
    from sklearn.metrics import average_precision_score

    scores = np.where(np.isfinite(probabilities), probabilities, np.where(labels == 1, -1.0, 2.0))
    pairs = zip(labels.T, scores.T, strict=True)
    return np.array([average_precision_score(has, score) if has.any() else np.nan for has, score in pairs])


def mean_average_precision(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean of `average_precisions` over the labels that some image has, in 0..1; 0 if none has any."""
    found = average_precisions(labels, probabilities)
    # Of two equal rankings none must win by the last bit of a sum: then the lower loss decides which epoch is best.
    return round(float(found[np.isfinite(found)].mean()), 12) if np.isfinite(found).any() else 0.0


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return how far what a model is sure of lies from what is right, in 0..1, averaged over what it says.

    The confidences fall into 15 bins of equal width; the gap between mean confidence and accuracy of each counts by its
    size (Guo et al., "On Calibration of Modern Neural Networks", 2017). Where an image has one label, that is the most
    probable class's probability; where it may have several, every probability of every image is one confidence. A row
    that is not finite counts as sure and wrong.

    Args:
        labels: int64 [N], or uint8 [N, C] in {0, 1}.
        probabilities: float32 [N, C].
    """
    finite = answered(probabilities)[:, None]
    sure = np.where(finite, probabilities, 1.0).astype(np.float64)
    if labels.ndim == 2:
        found = np.where(finite, labels == 1, False)
    else:
        found = (finite[:, 0] & (sure.argmax(1) == labels))[:, None]
        sure = sure.max(1, keepdims=True)
    bins = (np.ceil(sure * CALIBRATION_BINS) - 1).clip(0, CALIBRATION_BINS - 1).astype(np.int64)
    gaps = np.bincount(bins.ravel(), weights=(found - sure).ravel(), minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / sure.size)
