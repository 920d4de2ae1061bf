"""Running the proof: an artifact in its real runtime, on images that chose nothing of it, beside what it replaces."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from zoo.data.decode import to_rgb
from zoo.data.loader import evaluation_batches
from zoo.evaluation.examples import Example, most_flipped, most_moved
from zoo.evaluation.labels import thresholds_of
from zoo.exporting.asking import ask_all
from zoo.exporting.compare import agree, agreed, compare
from zoo.exporting.evidence import evidence, parts
from zoo.exporting.golden import choose, golden_of
from zoo.exporting.guarded import Guarded
from zoo.exporting.limits import Budget, findings, verdict_of
from zoo.exporting.reference import Reference, reference_of
from zoo.exporting.stress import stress, stress_drop
from zoo.records.answers import eager
from zoo.records.manifest import Agreement, Elsewhere, Latency, Report, ResizeCost
from zoo.records.versions import machine
from zoo.runtime.timing import Timing, interleave, joined

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from zoo.contracts.plugins import Predictor, Split
    from zoo.exporting.asking import Contender
    from zoo.records.golden import Golden
    from zoo.records.trained import Trained

PROVES = "test"
"""The split that proves: nothing of a run or a file is chosen by it. A dataset without one gets one that is cut from
its training images."""
BATCH_SIZES = (1, 2, 5)
RESIZE_SECONDS = 1.0
TIMED_SECONDS = 3.0
MOST_ELSEWHERE = 512
"""Images that are asked otherwise; one by one and unfused they take longer than all others together."""
LEAST_ROUNDS = 20
OPENINGS = 3
"""How often everything is opened and timed: where a file's memory comes to lie moves its latency by a tenth."""


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


def prove(
    trained: Trained,
    contender: Contender,
    budget: Budget,
    *,
    split: str = PROVES,
    also: Sequence[Path] = (),
    stressed: bool = False,
) -> Proof:
    """Measure everything that the report tells, and decide.

    An artifact that crashes or answers nonsense raises nothing: it gets a report that refuses it.

    Args:
        trained: The run, and its data.
        contender: The artifact, and what it is measured beside.
        budget: What the user allows.
        split: Whose images prove; of an older artifact those that proved it before.
        also: Folders of further pictures, without labels.
        stressed: Whether corrupted images are asked as well.
    """
    part = trained.data.splits[split]
    labels, classes = part.labels, trained.record.classes
    thresholds = thresholds_of(trained.record)
    candidate = Guarded(contender.predict, len(classes))
    ask = functools.partial(ask_all, trained, contender, candidate)
    answers, statistics, median = ask(part)
    pair = (answers["reference"], answers["artifact"])
    numbers: dict[str, Any] = compare(labels, *pair, classes, thresholds, budget)
    numbers["elsewhere"], gaps = _elsewhere(trained, contender, part, pair[1])
    golden, pixels = golden_of(trained, split, choose(labels, gaps), candidate, resizes=contender.resizes)
    numbers |= evidence(trained, ask, parts(trained, split, also), budget.confidence)
    numbers["agreement"] = {split: agreed(*pair, thresholds, budget.confidence), **numbers["agreement"]}
    numbers["batches"] = _batch_differences(candidate, golden)
    numbers |= _sizes(contender)
    if "onnxruntime_fp32" in answers:
        numbers["against_onnxruntime_fp32"] = agree(answers["onnxruntime_fp32"], pair[1], thresholds)
    numbers["control"] = _control(trained, golden.reference, pixels, thresholds)
    numbers |= _unknown(trained, contender, candidate, part)
    numbers |= {} if candidate.fault else _costs(trained, contender, pixels, median)
    if stressed and not candidate.fault:
        numbers |= _under_stress(trained, contender.without_resize or candidate, part, budget)
    reasons = [candidate.fault] if candidate.fault else [str(f) for f in findings(numbers, budget, contender.precision)]
    report = _report({**numbers, "split": split}, tuple(reasons), contender, budget)
    reference = reference_of(split, classes, pair[1], thresholds, statistics)
    shown = (most_flipped(labels, *pair, thresholds), most_moved(*pair, thresholds))
    return Proof(report, golden, reference, *(_examples(trained, part, answers, chosen) for chosen in shown))


def _report(numbers: dict[str, Any], reasons: tuple[str, ...], contender: Contender, budget: Budget) -> Report:
    return Report(
        accepted=not reasons,
        reasons=reasons,
        verdict=verdict_of(reasons, numbers["bound"], budget),
        threads=contender.threads,
        max_drop=budget.max_drop,
        min_speedup=budget.min_speedup,
        machine=machine(),
        saturates=contender.saturates,
        on_target=contender.on_target,
        **numbers,
    )


def _elsewhere(
    trained: Trained, contender: Contender, split: Split, answers: np.ndarray
) -> tuple[Elsewhere | None, np.ndarray]:
    """Ask the file that rounds otherwise, image by image; also return how far each moved, infinity if not asked."""
    if contender.elsewhere is None:
        return None, np.zeros(len(answers))
    asked = np.unique(np.linspace(0, len(answers) - 1, MOST_ELSEWHERE).astype(int))
    predict = Guarded(contender.elsewhere, answers.shape[1])
    images = (to_rgb(split.images[index]) for index in asked)
    taken = (image if contender.resizes else trained.preprocess.prepare(image) for image in images)
    found = np.concatenate([predict(image[None]) for image in taken])
    moved = np.full(len(answers), np.inf)
    moved[asked] = np.abs(found - answers[asked]).max(1)
    agreed = agree(answers[asked], found, thresholds_of(trained.record))
    return Elsewhere(images=len(asked), **agreed.model_dump()), moved


def _examples(trained: Trained, split: Split, answers: dict[str, np.ndarray], chosen: list[int]) -> list[Example]:
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


def _unknown(trained: Trained, contender: Contender, candidate: Guarded, split: Split) -> dict[str, Any]:
    """Compare which images are unknown, in a pass of its own."""
    if trained.unknown is None or candidate.fault:
        return {}
    reference = eager(trained.shipped)
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


def _under_stress(trained: Trained, predict: Predictor, split: Split, budget: Budget) -> dict[str, Any]:
    found = stress(trained, predict, split)
    return {"stress": found, "stress_drop": stress_drop(found), "max_stress_drop": budget.max_stress_drop}


def _costs(trained: Trained, contender: Contender, pixels: np.ndarray, median: np.ndarray | None) -> dict[str, Any]:
    found = _latency(trained, contender, pixels)
    return found if median is None else {**found, "resize": _resize_cost(trained, contender, pixels, median)}


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


def _sizes(contender: Contender) -> dict[str, int]:
    own = _size(contender.model_file)
    return {"size_bytes": own, "fp32_size_bytes": _size(contender.fp32_file) if contender.fp32_file else own}


def _size(model_file: Path) -> int:
    """Count the model file and whatever the exporter wrote beside it."""
    return sum(p.stat().st_size for p in model_file.parent.glob(f"{model_file.stem}*"))
