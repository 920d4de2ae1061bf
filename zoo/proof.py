"""Running the proof: an artifact in its real runtime, on the whole validation split, beside what it replaces."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.artifact import Agreement, Golden, Latency, Report
from zoo.data.loader import evaluation_batches
from zoo.errors import first_line
from zoo.evaluate.score import eager
from zoo.labels import thresholds_of
from zoo.runtime.timing import Timing, interleave
from zoo.verify import Budget, agree, compare, findings
from zoo.versions import machine

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.plugin import Predictor
    from zoo.trained import Trained

SPLIT = "val"
BATCH_SIZES = (1, 2, 5)
GOLDEN_IMAGES = 16


@dataclass(frozen=True, kw_only=True)
class Contender:
    """The artifact and what it is measured beside; all opened with the same number of threads."""

    predict: Predictor
    model_file: Path
    precision: str
    threads: int
    fp32: Predictor | None = None
    """The same format at fp32 in the same runtime; None if the artifact is just that."""
    fp32_file: Path | None = None
    onnxruntime_fp32: Predictor | None = None
    """The fp32 ONNX file; None if the artifact, or its fp32, is just that."""
    on_target: bool = True
    foreign_runtime: bool = False
    """Whether the format does not run in onnxruntime, so that the two are compared as well."""


@dataclass
class Guarded:
    """A predictor whose failure is an answer: from its first fault on it gives NaN, and says why."""

    predict: Predictor
    classes: int
    fault: str = ""

    def __call__(self, images: np.ndarray) -> np.ndarray:
        if not self.fault:
            try:
                answers = self.predict(images)
            except Exception as exc:
                self.fault = f"it does not run: {first_line(exc)}"
            else:
                self.fault = _why_wrong(answers, (len(images), self.classes))
        return np.full((len(images), self.classes), np.nan, np.float32) if self.fault else answers


def prove(trained: Trained, contender: Contender, budget: Budget) -> tuple[Report, Golden]:
    """Measure everything that the report tells, and decide.

    An artifact that crashes or answers nonsense raises nothing: it gets a report that refuses it.
    """
    labels, classes = trained.data.splits[SPLIT].labels, trained.record.classes
    thresholds = thresholds_of(trained.record)
    candidate = Guarded(contender.predict, len(classes))
    golden, answers = _one_pass(trained, contender, candidate)
    numbers: dict[str, Any] = compare(labels, answers["reference"], answers["artifact"], classes, thresholds)
    numbers["batches"] = _batch_differences(candidate, golden)
    numbers["size_bytes"] = _size(contender.model_file)
    numbers["fp32_size_bytes"] = _size(contender.fp32_file) if contender.fp32_file else numbers["size_bytes"]
    if "onnxruntime_fp32" in answers:
        numbers["against_onnxruntime_fp32"] = agree(answers["onnxruntime_fp32"], answers["artifact"], thresholds)
    numbers["control"] = _control(trained, golden, thresholds)
    if not candidate.fault:
        numbers |= _latency(trained, contender, golden.images)
    reasons = [candidate.fault] if candidate.fault else [str(f) for f in findings(numbers, budget, contender.precision)]
    report = Report(
        accepted=not reasons,
        reasons=tuple(reasons),
        split=SPLIT,
        threads=contender.threads,
        max_drop=budget.max_drop,
        min_speedup=budget.min_speedup,
        machine=machine(),
        on_target=contender.on_target,
        **numbers,
    )
    return report, golden


def replay(golden: Golden, predict: Predictor) -> float:
    """Return the largest probability difference between the golden answers and those of `predict` now."""
    candidate = Guarded(predict, golden.artifact.shape[1])
    return agree(golden.artifact, candidate(golden.images)).max_probability_difference


def _why_wrong(answers: object, shape: tuple[int, int]) -> str:
    if not isinstance(answers, np.ndarray) or answers.shape != shape or answers.dtype != np.float32:
        got = f"{answers.dtype} {list(answers.shape)}" if isinstance(answers, np.ndarray) else type(answers).__name__
        return f"it gives {got}, expected float32 {list(shape)}"
    return "" if np.isfinite(answers).all() else "it gives answers that are not finite"


def _one_pass(trained: Trained, contender: Contender, candidate: Guarded) -> tuple[Golden, dict[str, np.ndarray]]:
    """Ask everyone the whole split, batch by batch, and keep the golden images."""
    split = trained.data.splits[SPLIT]
    asked: dict[str, Predictor] = {"reference": eager(trained.shipped), "artifact": candidate}
    if contender.foreign_runtime and contender.onnxruntime_fp32:
        asked["onnxruntime_fp32"] = contender.onnxruntime_fp32
    chosen = one_of_each(split.labels, GOLDEN_IMAGES)
    kept: list[np.ndarray] = []
    answers: dict[str, list[np.ndarray]] = {name: [] for name in asked}
    done = 0
    for images, _ in evaluation_batches(split, trained.preprocess, workers=trained.workers):
        for name, predict in asked.items():
            answers[name].append(predict(images))
        kept += [images[i - done] for i in chosen if done <= i < done + len(images)]
        done += len(images)
    joined = {name: np.concatenate(parts) for name, parts in answers.items()}
    golden = Golden(
        images=np.stack(kept),
        labels=split.labels[chosen],
        reference=joined["reference"][chosen],
        artifact=joined["artifact"][chosen],
    )
    return golden, joined


def one_of_each(labels: np.ndarray, count: int) -> np.ndarray:
    """Choose images so that as many classes as possible are there: the first of each, then the second of each.

    Args:
        labels: int64 [N], or uint8 [N, C]; then the label of an image seen least so far decides, and images without
            any are a class of their own.
        count: How many; fewer if there are fewer images.

    Returns:
        Sorted indices.
    """
    seen: Counter[int] = Counter()
    turns = []
    for label in labels:
        held = (np.flatnonzero(label).tolist() or [-1]) if labels.ndim == 2 else [int(label)]
        turns.append(min(seen[one] for one in held))
        seen.update(held)
    return np.sort(np.argsort(turns, kind="stable")[:count])


def _batch_differences(candidate: Guarded, golden: Golden) -> dict[str, float]:
    """Ask the golden images again in other batch sizes than those of the pass over the split."""
    return {
        str(size): agree(golden.artifact[:size], candidate(golden.images[:size])).max_probability_difference
        for size in BATCH_SIZES
        if size <= len(golden.images)
    }


def _control(trained: Trained, golden: Golden, thresholds: np.ndarray | None) -> Agreement:
    """Move every normalised pixel to the next number that fp32 has, and see what the reference makes of it."""
    import torch

    def nudge(_: object, __: object, pixels: torch.Tensor) -> torch.Tensor:
        return torch.nextafter(pixels, torch.full_like(pixels, torch.inf))

    handle = trained.shipped.get_submodule("normalise").register_forward_hook(nudge)
    try:
        return agree(golden.reference, eager(trained.shipped)(golden.images), thresholds)
    finally:
        handle.remove()


def _latency(trained: Trained, contender: Contender, images: np.ndarray) -> dict[str, Any]:
    import torch

    candidates: dict[str, Predictor] = {"artifact": contender.predict}
    if contender.fp32:
        candidates["fp32"] = contender.fp32
    if contender.onnxruntime_fp32:
        candidates["onnxruntime_fp32"] = contender.onnxruntime_fp32
    candidates["eager_fp32"] = eager(trained.shipped)
    before = torch.get_num_threads()
    torch.set_num_threads(contender.threads or before)
    try:
        timings = interleave(candidates, images)
    finally:
        torch.set_num_threads(before)
    # Where the artifact is itself the fp32 file, that is its own yardstick.
    timings.setdefault("fp32", timings["artifact"])
    if not contender.foreign_runtime:
        timings.setdefault("onnxruntime_fp32", timings["fp32"])
    order = [name for name in ("artifact", "fp32", "onnxruntime_fp32", "eager_fp32") if name in timings]
    return {
        "latency_ms": {name: _milliseconds(timings[name]) for name in order},
        "speedup": round(timings["artifact"].speedup_over(timings["fp32"]), 3),
    }


def _milliseconds(timing: Timing) -> Latency:
    return Latency(p50=round(timing.p50, 4), p95=round(timing.p95, 4))


def _size(model_file: Path) -> int:
    """Count the model file and whatever the exporter wrote beside it."""
    return sum(p.stat().st_size for p in model_file.parent.glob(f"{model_file.stem}*"))
