"""Arrays in, numbers out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


def classification_metrics(labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """Return what is worth knowing of a classifier on one split.

    Args:
        labels: int64 [N].
        probabilities: float32 [N, C].
        classes: The C names.

    Returns:
        images; top1, top5 (where there are more than 5 classes), macro_precision, macro_recall, macro_f1, all in 0..1;
        loss (mean cross-entropy in nats); per_class name -> precision, recall, f1, images; confusion[true][predicted]
        as counts. Precision of a class that was never predicted counts as 0.
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


def top_k(labels: np.ndarray, probabilities: np.ndarray, k: int) -> float:
    """Return the share of images whose label is among the k most probable classes; ties go to the lower index."""
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return float((best == labels[:, None]).any(1).mean())


def cross_entropy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean of -log of the label's probability, in nats; a probability of 0 counts as 1e-12."""
    right = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.clip(right, 1e-12, 1.0)).mean())
