"""An artifact and what it is measured beside, and asking all of them the same images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from zoo.data.decode import to_rgb
from zoo.data.loader import evaluation_batches
from zoo.records.answers import eager
from zoo.runtime.statistics import image_statistics

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zoo.contracts.plugins import Predictor, Split
    from zoo.exporting.guarded import Guarded
    from zoo.records.trained import Trained


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
    saturates: bool | None = None
    """Whether sums of its int8 products may saturate on x86 without VNNI; None where nobody can tell."""
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


def ask_all(trained: Trained, contender: Contender, candidate: Guarded, split: Split) -> Asked:
    """Ask everyone every image of a split, batch by batch."""
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
        answers["artifact"], statistics, median = _over_images(trained, candidate, split)
    return Asked(answers, statistics, median)


def _over_images(trained: Trained, candidate: Guarded, split: Split) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ask for every image as it was decoded; return answers, what the images look like, and the one of median size."""
    answers, areas, looks = [], [], []
    for images, _ in evaluation_batches(split, None, workers=trained.workers):
        answers.append(candidate(images))
        areas.append(images.size)
        looks.append(list(image_statistics(images[0]).values()))
    middle = int(np.argsort(areas, kind="stable")[len(areas) // 2])
    return np.concatenate(answers), np.array(looks), to_rgb(split.images[middle])[None]
