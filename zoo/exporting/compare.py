"""Artifact against reference, as arrays: how far their answers are apart. Decides nothing; never prints."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.evaluation.labels import answered, chosen, held, logits, right
from zoo.evaluation.metrics import expected_calibration_error, mean_average_precision
from zoo.evaluation.paired import images_needed, loss_bound
from zoo.exporting.limits import Budget
from zoo.records.manifest import Agreed, Agreement, ClassChange, Fidelity, Report, Selection

if TYPE_CHECKING:
    from collections.abc import Sequence


Z_95 = 1.959964


def compare(
    labels: np.ndarray,
    reference: np.ndarray,
    artifact: np.ndarray,
    classes: Sequence[str],
    thresholds: np.ndarray | None = None,
    budget: Budget | None = None,
) -> dict[str, Any]:
    """Return the accuracy part of a report.

    Where an image may have several labels it is right if all of them are, and no other (exact match). A class's
    `reference_top1` and `artifact_top1` are always the share of its images in which it is recognised (recall).

    Args:
        labels: int64 [N], or uint8 [N, C].
        reference: float32 [N, C], eager fp32.
        artifact: float32 [N, C]; a NaN counts as wrong and as a difference of 1, the largest there is.
        classes: The C names.
        thresholds: float64 [C] if the labels are uint8 [N, C].
        budget: What may be lost, and how sure that shall be [default: the usual one].
    """
    budget = budget or Budget()
    right_before, right_after = right(labels, reference, thresholds), right(labels, artifact, thresholds)
    lost, gained = int((right_before & ~right_after).sum()), int((~right_before & right_after).sum())
    agreement = agree(reference, artifact, thresholds)
    return {
        "images": len(labels),
        "reference_top1": float(right_before.mean()),
        "artifact_top1": float(right_after.mean()),
        "drop": 100 * (lost - gained) / len(labels),
        "drop_interval": drop_interval(lost, gained, len(labels)),
        "bound": loss_bound(lost, gained, len(labels), budget.confidence),
        "confidence": budget.confidence,
        "images_needed": _needed(lost, gained, len(labels), budget),
        "flips": agreement.flips,
        "max_probability_difference": agreement.max_probability_difference,
        "fidelity": fidelity(reference, artifact, multi_label=thresholds is not None),
        "reference_ece": expected_calibration_error(labels, reference),
        "artifact_ece": expected_calibration_error(labels, artifact),
        "per_class": _per_class(held(labels, len(classes)), (reference, artifact), classes, thresholds),
        **({} if thresholds is None else _precision_drop(labels, reference, artifact)),
    }


def agree(one: np.ndarray, other: np.ndarray, thresholds: np.ndarray | None = None) -> Agreement:
    """Return the images whose labels differ, and the largest difference, of two float32 [N, C]."""
    gap = np.abs(one.astype(np.float64) - other)
    worst = float(np.where(np.isfinite(gap), gap, 1.0).max())
    differ = (chosen(one, thresholds) != chosen(other, thresholds)).any(1) | (answered(one) != answered(other))
    return Agreement(flips=int(differ.sum()), max_probability_difference=worst)


def fidelity(reference: np.ndarray, artifact: np.ndarray, *, multi_label: bool = False) -> Fidelity:
    """Return how close the logits of two float32 [N, C] are, image by image; a row with NaN has a cosine of -1.

    The logits are those that the probabilities stand for, centred on each image's mean after a softmax, which knows no
    more of them; so a collapse shows that the top-1 of easy images hides.
    """
    one, other = (logits(np.nan_to_num(p), multi_label=multi_label) for p in (reference, artifact))
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    # Answers that say nothing, all classes alike, have no direction; equal ones are still as close as can be.
    alike = np.where((one == other).all(1), 1.0, (one * other).sum(1) / np.maximum(lengths, 1e-12))
    cosines = np.where(answered(artifact), alike, -1.0)
    scale = max(float(np.abs(one).max(1).mean()), 1e-12)
    gaps = np.where(answered(artifact), np.abs(one - other).max(1) / scale, np.inf)
    return Fidelity(
        cosine=float(np.median(cosines)),
        cosine_p10=float(np.percentile(cosines, 10)),
        logit_difference=float(min(np.median(gaps), 1e6)),
    )


def _needed(lost: int, gained: int, images: int, budget: Budget) -> int | None:
    """Return how many images would prove it; None of a file that loses too much of these already."""
    if 100 * (lost - gained) > budget.max_drop * images:
        return None
    return images_needed(lost, gained, images, budget.max_drop, budget.confidence)


def selection(
    split: str, labels: np.ndarray, reference: np.ndarray, artifact: np.ndarray, thresholds: np.ndarray | None
) -> Selection:
    """Return how a file does on the images that it was chosen by; arrays as `compare` takes them."""
    before, after = (float(right(labels, answers, thresholds).mean()) for answers in (reference, artifact))
    drop = 100 * (before - after)
    return Selection(split=split, images=len(labels), reference_top1=before, artifact_top1=after, drop=drop)


def agreed(
    reference: np.ndarray, artifact: np.ndarray, thresholds: np.ndarray | None, confidence: float = 0.95
) -> Agreed:
    """Return how many answers of two float32 [N, C] differ, and how many may in the long run."""
    changed = agree(reference, artifact, thresholds).flips
    # A changed answer is at worst a lost one, and none can be gained: the bound of Clopper and Pearson.
    bound = loss_bound(changed, 0, len(reference), confidence)
    return Agreed(images=len(reference), changed=changed, bound=bound)


def drop_interval(lost: int, gained: int, images: int) -> tuple[float, float]:
    """Return the 95 % interval of a drop in points, from paired outcomes.

    Args:
        lost: Images that only the reference got right.
        gained: Images that only the artifact got right.
        images: All of them.

    The Wald interval with half an image added to each of the four cells (Agresti and Min, "Simple improved confidence
    intervals for comparing matched proportions", Statistics in Medicine 24, 2005): honest also where nothing changed.
    """
    b, c, n = lost + 0.5, gained + 0.5, images + 2
    centre = (b - c) / n
    half = Z_95 * math.sqrt(max(b + c - (b - c) ** 2 / n, 0.0)) / n
    return (100 * max(centre - half, -1.0), 100 * min(centre + half, 1.0))


def differing(stored: Report, fresh: Report) -> list[str]:
    """Return the numbers of a stored report that a new proof does not give again, each as one line; latency aside.

    Counts must be equal; probabilities and mAP may differ by 1e-3, which other processors bring about.
    """
    lines = []
    for name in ("images", "reference_top1", "artifact_top1", "drop", "flips", "size_bytes", "per_class", "selection"):
        before, after = getattr(stored, name), getattr(fresh, name)
        if name == "selection" and before is None:
            continue  # an older zoo did not ask
        if before != after:
            told = f"{name} was {before}, is {after}"
            lines.append(told if name not in ("per_class", "selection") else f"{name} has changed")
    before, after = stored.fidelity, fresh.fidelity
    for name in Fidelity.model_fields if before and after else ():
        gap = abs(getattr(before, name) - getattr(after, name))
        if gap > 1e-3:
            lines.append(f"{name} of the logits moved by {gap:.2g}")
    shares = ("reference_ece", "artifact_ece", "reference_unknown", "artifact_unknown")
    for name in ("max_probability_difference", "reference_map", "artifact_map", *shares):
        before, after = getattr(stored, name), getattr(fresh, name)
        # What an older zoo did not measure cannot have changed.
        gap = 0.0 if before is None or after is None else abs(before - after)
        if gap > 1e-3:
            lines.append(f"{name} moved by {gap:.2g}")
    return lines


def _per_class(
    members: np.ndarray, answers: tuple[np.ndarray, np.ndarray], classes: Sequence[str], thresholds: np.ndarray | None
) -> dict[str, ClassChange]:
    before, after = (chosen(probabilities, thresholds) for probabilities in answers)
    return {
        name: ClassChange(
            images=int(own.sum()),
            reference_top1=float(before[own, i].mean()),
            artifact_top1=float(after[own, i].mean()),
        )
        for i, name in enumerate(classes)
        if (own := members[:, i]).any()
    }


def _precision_drop(labels: np.ndarray, reference: np.ndarray, artifact: np.ndarray) -> dict[str, float]:
    before, after = mean_average_precision(labels, reference), mean_average_precision(labels, artifact)
    return {"reference_map": before, "artifact_map": after, "map_drop": 100 * (before - after)}
