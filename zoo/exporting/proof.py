"""Running the proof: an artifact in its real runtime, on the whole validation split, beside what it replaces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from zoo.data.decode import to_rgb
from zoo.data.loader import evaluation_batches
from zoo.evaluation.examples import Example, most_flipped, most_moved
from zoo.evaluation.labels import thresholds_of
from zoo.exporting.compare import agree, compare
from zoo.exporting.golden import choose, golden_of
from zoo.exporting.guarded import Guarded
from zoo.exporting.limits import Budget, findings
from zoo.exporting.reference import Reference, reference_of
from zoo.records.answers import eager
from zoo.records.manifest import Agreement, Elsewhere, Latency, Report, ResizeCost
from zoo.records.versions import machine
from zoo.runtime.statistics import image_statistics
from zoo.runtime.timing import Timing, interleave, joined

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zoo.contracts.plugins import Predictor
    from zoo.records.golden import Golden
    from zoo.records.trained import Trained

SPLIT = "val"
BATCH_SIZES = (1, 2, 5)
RESIZE_SECONDS = 1.0
TIMED_SECONDS = 3.0
MOST_ELSEWHERE = 512
"""Images that are asked otherwise; one by one and unfused they take longer than all others together."""
LEAST_ROUNDS = 20
OPENINGS = 3
"""How often everything is opened and timed: where a file's memory comes to lie moves its latency by a tenth."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """The artifact and what it is measured beside; all opened with the same number of threads."""

    predict: Predictor
    model_file: Path
    precision: str
    threads: int
    opened: Callable[[], dict[str, Predictor]]
    """Open anew what is timed: "artifact", "fp32" (the same format in the same runtime, if the artifact is not just
    that) and "onnxruntime_fp32", if that is another file; all of them for prepared pixels."""
    fp32_file: Path | None = None
    onnxruntime_fp32: Predictor | None = None
    """The fp32 ONNX file; None if the artifact, or its fp32, is just that."""
    without_resize: Predictor | None = None
    """The artifact as it is for prepared pixels; None if it takes nothing else."""
    elsewhere: Predictor | None = None
    """The artifact, rounding otherwise, as other kinds of processors do; None where its numbers are so fine that this
    does not show."""
    on_target: bool = True
    foreign_runtime: bool = False
    """Whether the format does not run in onnxruntime, so that the two are compared as well."""

    @property
    def resizes(self) -> bool:
        """Whether the artifact takes images as they are."""
        return self.without_resize is not None


class Asked(NamedTuple):
    """What came out of a pass over the whole split."""

    answers: dict[str, np.ndarray]
    """Of each who was asked: float32 [N, C]."""
    statistics: np.ndarray
    """What each image that the artifact was given looks like, float64 [N, 4]; see `zoo.runtime.statistics`."""
    median: np.ndarray | None = None
    """The image of the median size, uint8 [1, H, W, 3]; only of an artifact that resizes."""


class Proof(NamedTuple):
    """What was found, and images that show it."""

    report: Report
    golden: Golden
    reference: Reference
    """What production is compared with."""
    flipped: list[Example]
    """Some of the images whose answer changed, the worst first."""
    moved: list[Example]
    """Some that kept their answer, those that moved most first."""


def prove(trained: Trained, contender: Contender, budget: Budget) -> Proof:
    """Measure everything that the report tells, and decide.

    An artifact that crashes or answers nonsense raises nothing: it gets a report that refuses it.
    """
    labels, classes = trained.data.splits[SPLIT].labels, trained.record.classes
    thresholds = thresholds_of(trained.record)
    candidate = Guarded(contender.predict, len(classes))
    answers, statistics, median = _one_pass(trained, contender, candidate)
    elsewhere, gaps = _elsewhere(trained, contender, answers["artifact"])
    golden, pixels = golden_of(trained, SPLIT, choose(labels, gaps), candidate, resizes=contender.resizes)
    numbers: dict[str, Any] = compare(labels, answers["reference"], answers["artifact"], classes, thresholds)
    numbers["batches"] = _batch_differences(candidate, golden)
    numbers["size_bytes"] = _size(contender.model_file)
    numbers["fp32_size_bytes"] = _size(contender.fp32_file) if contender.fp32_file else numbers["size_bytes"]
    if "onnxruntime_fp32" in answers:
        numbers["against_onnxruntime_fp32"] = agree(answers["onnxruntime_fp32"], answers["artifact"], thresholds)
    numbers["elsewhere"] = elsewhere
    numbers["control"] = _control(trained, golden.reference, pixels, thresholds)
    numbers |= _unknown(trained, contender, candidate)
    if not candidate.fault:
        numbers |= _latency(trained, contender, pixels)
    if not candidate.fault and median is not None:
        numbers["resize"] = _resize_cost(trained, contender, pixels, median)
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
    flipped = most_flipped(labels, answers["reference"], answers["artifact"], thresholds)
    moved = most_moved(answers["reference"], answers["artifact"], thresholds)
    reference = reference_of(SPLIT, classes, answers["artifact"], thresholds, statistics)
    return Proof(report, golden, reference, _examples(trained, answers, flipped), _examples(trained, answers, moved))


def _one_pass(trained: Trained, contender: Contender, candidate: Guarded) -> Asked:
    """Ask everyone the whole split, batch by batch."""
    split = trained.data.splits[SPLIT]
    asked: dict[str, Predictor] = {"reference": eager(trained.shipped)}
    if contender.foreign_runtime and contender.onnxruntime_fp32:
        asked["onnxruntime_fp32"] = contender.onnxruntime_fp32
    if not contender.resizes:
        asked["artifact"] = candidate
    parts: dict[str, list[np.ndarray]] = {name: [] for name in asked}
    looks: list[list[float]] = []
    for images, _ in evaluation_batches(split, trained.preprocess, workers=trained.workers):
        for name, predict in asked.items():
            parts[name].append(predict(images))
        if not contender.resizes:
            looks += [list(image_statistics(image).values()) for image in images]
    answers = {name: np.concatenate(part) for name, part in parts.items()}
    statistics, median = np.array(looks), None
    if contender.resizes:
        answers["artifact"], statistics, median = _pass_over_images(trained, candidate)
    return Asked(answers, statistics, median)


def _elsewhere(trained: Trained, contender: Contender, answers: np.ndarray) -> tuple[Elsewhere | None, np.ndarray]:
    """Ask the file that rounds otherwise, image by image; also return how far each moved, infinity if not asked."""
    if contender.elsewhere is None:
        return None, np.zeros(len(answers))
    split = trained.data.splits[SPLIT]
    asked = np.unique(np.linspace(0, len(answers) - 1, MOST_ELSEWHERE).astype(int))
    predict = Guarded(contender.elsewhere, answers.shape[1])
    images = (to_rgb(split.images[index]) for index in asked)
    taken = (image if contender.resizes else trained.preprocess.prepare(image) for image in images)
    found = np.concatenate([predict(image[None]) for image in taken])
    moved = np.full(len(answers), np.inf)
    moved[asked] = np.abs(found - answers[asked]).max(1)
    agreed = agree(answers[asked], found, thresholds_of(trained.record))
    return Elsewhere(images=len(asked), **agreed.model_dump()), moved


def _pass_over_images(trained: Trained, candidate: Guarded) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ask for every image as it was decoded; return answers, what the images look like, and the one of median size."""
    split = trained.data.splits[SPLIT]
    answers, areas, looks = [], [], []
    for images, _ in evaluation_batches(split, None, workers=trained.workers):
        answers.append(candidate(images))
        areas.append(images.size)
        looks.append(list(image_statistics(images[0]).values()))
    middle = int(np.argsort(areas, kind="stable")[len(areas) // 2])
    return np.concatenate(answers), np.array(looks), to_rgb(split.images[middle])[None]


def _examples(trained: Trained, answers: dict[str, np.ndarray], chosen: list[int]) -> list[Example]:
    split = trained.data.splits[SPLIT]
    return [
        Example(
            image=trained.preprocess.prepare(to_rgb(split.images[index])),
            label=split.labels[index],
            reference=answers["reference"][index],
            artifact=answers["artifact"][index],
            index=index,
        )
        for index in chosen
    ]


def _batch_differences(candidate: Guarded, golden: Golden) -> dict[str, float]:
    """Ask the golden images again, several at once."""
    return {
        str(size): agree(golden.artifact[:size], candidate(golden.images[:size])).max_probability_difference
        for size in BATCH_SIZES
        if size <= len(golden.images)
    }


def _unknown(trained: Trained, contender: Contender, candidate: Guarded) -> dict[str, Any]:
    """Compare which images are unknown, in a pass of its own."""
    if trained.unknown is None or candidate.fault:
        return {}
    reference = eager(trained.shipped)
    split = trained.data.splits[SPLIT]
    prepared = evaluation_batches(split, trained.preprocess, workers=trained.workers)
    before = np.concatenate([reference.with_unknown(images)[1] for images, _ in prepared])
    preprocess = None if contender.resizes else trained.preprocess
    taken = evaluation_batches(split, preprocess, workers=trained.workers)
    after = np.concatenate([candidate.unknown(images) for images, _ in taken])
    return {
        "reference_unknown": float(before.mean()),
        "artifact_unknown": float(after.mean()),
        "unknown_flips": int((before != after).sum()),
    }


def _control(trained: Trained, reference: np.ndarray, pixels: np.ndarray, thresholds: np.ndarray | None) -> Agreement:
    """Move every normalised pixel to the next number that fp32 has, and see what the reference makes of it."""
    import torch

    def nudge(_: object, __: object, normalised: torch.Tensor) -> torch.Tensor:
        return torch.nextafter(normalised, torch.full_like(normalised, torch.inf))

    handle = trained.shipped.get_submodule("normalise").register_forward_hook(nudge)
    try:
        return agree(reference, eager(trained.shipped)(pixels), thresholds)
    finally:
        handle.remove()


def _latency(trained: Trained, contender: Contender, images: np.ndarray) -> dict[str, Any]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(contender.threads or before)
    rounds = []
    try:
        for _ in range(OPENINGS):
            candidates: dict[str, Predictor] = {**contender.opened(), "eager_fp32": eager(trained.shipped)}
            rounds.append(interleave(candidates, images, seconds=TIMED_SECONDS / OPENINGS, rounds=LEAST_ROUNDS))
    finally:
        torch.set_num_threads(before)
    timings = {name: joined([timing[name] for timing in rounds]) for name in rounds[0]}
    speedups = [timing["artifact"].speedup_over(timing.get("fp32", timing["artifact"])) for timing in rounds]
    # Where the artifact is itself the fp32 file, that is its own yardstick.
    timings.setdefault("fp32", timings["artifact"])
    if not contender.foreign_runtime:
        timings.setdefault("onnxruntime_fp32", timings["fp32"])
    order = [name for name in ("artifact", "fp32", "onnxruntime_fp32", "eager_fp32") if name in timings]
    return {
        "latency_ms": {name: _milliseconds(timings[name]) for name in order},
        "speedup": round(float(np.median(speedups)), 3),
    }


def _resize_cost(trained: Trained, contender: Contender, pixels: np.ndarray, image: np.ndarray) -> ResizeCost:
    """Time the file on one image, uint8 [1, H, W, 3], beside the same network on prepared pixels."""
    assert contender.without_resize
    candidates = {
        "file": lambda _: contender.predict(image),
        "prepared": contender.without_resize,
        "pillow": lambda _: trained.preprocess.prepare(image[0]),
    }
    timings = interleave(candidates, pixels, seconds=RESIZE_SECONDS)
    return ResizeCost(
        height=image.shape[1],
        width=image.shape[2],
        milliseconds=round(timings["file"].undisturbed - timings["prepared"].undisturbed, 4),
        **{name: _milliseconds(found) for name, found in timings.items()},
    )


def _milliseconds(timing: Timing) -> Latency:
    return Latency(p50=round(timing.p50, 4), p95=round(timing.p95, 4))


def _size(model_file: Path) -> int:
    """Count the model file and whatever the exporter wrote beside it."""
    return sum(p.stat().st_size for p in model_file.parent.glob(f"{model_file.stem}*"))
