"""Artifact against reference, as arrays: the comparison, and findings with limits. Decides; never prints."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.evaluate.labels import answered, chosen, held, logits, right
from zoo.evaluate.metrics import expected_calibration_error, mean_average_precision
from zoo.runs.manifest import Agreement, ClassChange, Fidelity, Report

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DIFFERENCE_LIMITS = {"fp32": 5e-3, "fp16": 5e-2}
"""Largest change of any probability; int8 is judged by accuracy alone, since its probabilities move by design."""
RESIZE_LIMIT = 5e-2
"""The same of a file that resizes: its pixels are Pillow's but for a level here and there, and a few in tall images."""
CONTROL_FACTOR = 10
"""A difference is no fault of the file's if the least change of input moves the reference itself by a tenth of it."""
UNKNOWN_LIMIT = 0.5
"""Points of images whose `unknown` may change at these; below them the share of unknown images is judged."""
BATCH_LIMITS = {"fp32": 1e-4, "fp16": 1e-2, "int8-weights": 1e-3, "int4-weights": 1e-3}
"""Where only the weights have fewer bits the arithmetic is float. A dynamic range is that of the whole batch."""
BATCH_LIMIT_INT8 = 5e-2
DEFAULT_MAX_DROP = 1.0
DEFAULT_MIN_SPEEDUP = {"int8": 1.0, "dynamic": 1.0, "int8-weights": 0.95}
"""Precisions that exist to be faster; and one that is smaller, and must cost no time. 5 % are a measurement's noise."""
Z_95 = 1.959964


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What the user allows."""

    max_drop: float = DEFAULT_MAX_DROP
    """Points of top-1; of exact match, and of mAP, where an image may have several labels."""
    min_speedup: float | None = None
    """Over fp32 of the same format in the same runtime; None means that speed is not judged."""


@dataclass(frozen=True)
class Finding:
    """Something measured beyond its limit."""

    what: str
    measured: float
    limit: float

    def __str__(self) -> str:
        return f"{self.what} {self.measured:.4g}, limit {self.limit:.4g}"


def compare(
    labels: np.ndarray,
    reference: np.ndarray,
    artifact: np.ndarray,
    classes: Sequence[str],
    thresholds: np.ndarray | None = None,
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
    """
    right_before, right_after = right(labels, reference, thresholds), right(labels, artifact, thresholds)
    lost, gained = int((right_before & ~right_after).sum()), int((~right_before & right_after).sum())
    agreement = agree(reference, artifact, thresholds)
    return {
        "images": len(labels),
        "reference_top1": float(right_before.mean()),
        "artifact_top1": float(right_after.mean()),
        "drop": 100 * (lost - gained) / len(labels),
        "drop_interval": drop_interval(lost, gained, len(labels)),
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
    cosines = np.where(answered(artifact), (one * other).sum(1) / np.maximum(lengths, 1e-12), -1.0)
    scale = max(float(np.abs(one).max(1).mean()), 1e-12)
    gaps = np.where(answered(artifact), np.abs(one - other).max(1) / scale, np.inf)
    return Fidelity(
        cosine=float(np.median(cosines)),
        cosine_p10=float(np.percentile(cosines, 10)),
        logit_difference=float(min(np.median(gaps), 1e6)),
    )


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


def findings(report: Mapping[str, Any], budget: Budget, precision: str) -> list[Finding]:
    """Return everything in the numbers of a report that is beyond its limit; none means accepted.

    Args:
        report: The keys of `Report`, as far as they were measured.
        budget: What the user allows.
        precision: Of the artifact.
    """
    several = report.get("map_drop") is not None
    checks = [Finding(f"drop of {'exact match' if several else 'top-1'} in points", report["drop"], budget.max_drop)]
    if several:
        checks.append(Finding("drop of mAP in points", report["map_drop"], budget.max_drop))
    control = report.get("control")
    moved = CONTROL_FACTOR * control.max_probability_difference if control else 0.0
    if precision in DIFFERENCE_LIMITS:
        limit = max(DIFFERENCE_LIMITS[precision], moved, RESIZE_LIMIT if report.get("resize") else 0.0)
        checks.append(Finding("largest probability difference", report["max_probability_difference"], limit))
    for size, difference in report["batches"].items():
        limit = max(BATCH_LIMITS.get(precision, BATCH_LIMIT_INT8), moved)
        checks.append(Finding(f"probability difference in a batch of {size}", difference, limit))
    if report.get("unknown_flips") is not None:
        checks.append(_unknown_finding(report, budget, precision))
    over = [f for f in checks if not f.measured <= f.limit]
    speedup = report.get("speedup")
    if budget.min_speedup is not None and speedup is not None and not speedup >= budget.min_speedup:
        over.append(Finding("speed over fp32", speedup, budget.min_speedup))
    return over


def _unknown_finding(report: Mapping[str, Any], budget: Budget, precision: str) -> Finding:
    if precision in DIFFERENCE_LIMITS:
        changed = 100 * report["unknown_flips"] / report["images"]
        return Finding("images whose `unknown` changed in points", changed, UNKNOWN_LIMIT)
    change = 100 * abs(report["artifact_unknown"] - report["reference_unknown"])
    # One that calls nearly nothing unknown any more is as wrong as one that calls too much so.
    limit = max(budget.max_drop, 50 * report["reference_unknown"])
    return Finding("change of the share of unknown images in points", change, limit)


def differing(stored: Report, fresh: Report) -> list[str]:
    """Return the numbers of a stored report that a new proof does not give again, each as one line; latency aside.

    Counts must be equal; probabilities and mAP may differ by 1e-3, which other processors bring about.
    """
    lines = []
    for name in ("images", "reference_top1", "artifact_top1", "drop", "flips", "size_bytes", "per_class"):
        before, after = getattr(stored, name), getattr(fresh, name)
        if before != after:
            lines.append(f"{name} was {before}, is {after}" if name != "per_class" else "per_class has changed")
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
