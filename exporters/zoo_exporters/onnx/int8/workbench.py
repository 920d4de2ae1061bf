"""Making candidates of one model and measuring them: in onnxruntime, beside fp32, on the user's images."""

from __future__ import annotations

import functools
import itertools
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.plugin import Attempt, Score
from zoo_exporters.calibration import calibration_batches
from zoo_exporters.onnx.graph import save, seal
from zoo_exporters.onnx.int8.prepare import prepare
from zoo_exporters.onnx.int8.products import products
from zoo_exporters.onnx.int8.quantize import quantize, steps_for
from zoo_exporters.onnx.int8.ranges import calibrator_of, channel_means, ranges, watch
from zoo_exporters.onnx.int8.treat import equalized, with_biases_corrected
from zoo_exporters.onnx.reading import PRODUCTS
from zoo_exporters.onnx.saturation import noted
from zoo_exporters.quiet import reason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from onnx import ModelProto

    from zoo.plugin import ExportRequest, Predictor
    from zoo.runtime.timing import Timing
    from zoo_exporters.onnx.int8.effort import Effort
    from zoo_exporters.onnx.int8.journal import Journal
    from zoo_exporters.onnx.int8.products import Product
    from zoo_exporters.onnx.int8.ranges import Range
    from zoo_exporters.onnx.int8.recipe import Recipe

TIMED_IMAGES = 8
LEAST_ROUNDS, ENOUGH_ROUNDS = 15, 200
OPENINGS = 3
"""How often each candidate is opened and timed in the final round: where its memory lies moves latency by a tenth."""
PROBE_IMAGES = 32


@dataclass(frozen=True)
class Trial:
    """A candidate and what is known of it."""

    recipe: Recipe
    speedup: float | None = None
    score: Score | None = None
    kept_float: tuple[tuple[str, float], ...] = ()
    """Layers that accuracy keeps from int8, and how far each alone would move the answers; the worst first."""


class Workbench:
    """One model, its calibration images, and the fp32 file that candidates are measured beside."""

    def __init__(
        self, model: ModelProto, request: ExportRequest, effort: Effort, journal: Journal, folder: Path
    ) -> None:
        self.request = request
        self.effort = effort
        self._journal = journal
        self._folder = folder
        self._names = itertools.count()
        batches = list(calibration_batches(request))
        self._images = np.concatenate(batches)[: effort.calibration_images]
        self._given = model
        self._fp32 = self._open(model)
        self._plain = prepare(model)
        self.products: list[Product] = products(self._plain)
        self.matrices = frozenset(product.name for product in self.products if product.kind == "matrix")
        self.has_hard_sigmoid = any(node.op_type == "HardSigmoid" for node in self._plain.graph.node)
        self.attempts: dict[str, Attempt] = {}

    @property
    def can_equalize(self) -> bool:
        """Whether there are neighbours that could share out their scales."""
        return self._variant(True) != self._plain

    @property
    def bounded(self) -> bool:
        """Whether weights are held so small that no sum of neighbours saturates, unless a recipe wants all bits."""
        return self.request.target.activations == "uint8"

    @property
    def calibrator(self) -> str:
        """The one that the user fixed; empty if the search may choose."""
        return calibrator_of(dict(self.request.options))

    def build(self, recipe: Recipe, *, for_here: bool = False) -> ModelProto:
        """Return the int8 graph of a recipe, in the target's dialect, or in the one that is fast on this machine."""
        target = self.request.target
        if for_here and not target.is_here:
            target = replace(target, activations="uint8", reduce_range=False)
        model, found = self._variant(recipe.equalized), self._ranges(recipe.equalized, recipe.calibrator)
        if recipe.bias_corrected and recipe.static:
            model = with_biases_corrected(
                model, recipe.static, self._means(recipe.equalized), steps_for(recipe, target)
            )
        return quantize(model, recipe, found, target)

    def timed(self, recipe: Recipe) -> Trial:
        """Return a recipe with its speed over fp32, measured in turn, one image at a time.

        One that cannot be made, or does not run, has a speed of 0: the search goes on without it.
        """
        try:
            speedup = self._remembered(recipe, "speedup", lambda: self._speedup(recipe))
        except Exception as exc:
            failed = Attempt(name=recipe.describe(self.products), verdict=f"failed: {reason(exc)}")
            self.attempts[recipe.key], speedup = failed, 0.0
        return Trial(recipe, speedup=speedup)

    def timed_together(self, trials: Sequence[Trial]) -> list[Trial]:
        """Return trials with their speeds measured once more, all in turn: the best of many is often the luckiest."""
        keys = [trial.recipe.key for trial in trials]
        speeds = {key: self._journal.get(key, "speed together") for key in keys}
        if None in speeds.values():
            models = {trial.recipe.key: self.build(trial.recipe, for_here=True) for trial in trials}
            speeds = self._speeds_together(models)
        for key, speed in speeds.items():
            self._journal.put(key, "speed together", speed)
            self.attempts[key] = replace(self.attempts[key], speedup=round(speed, 3))
        return [replace(trial, speedup=speeds[trial.recipe.key]) for trial in trials]

    def _speeds_together(self, models: Mapping[str, ModelProto]) -> dict[str, float]:
        found: dict[str, list[float]] = {key: [] for key in models}
        for _ in range(OPENINGS):
            opened = {key: self._open(model) for key, model in models.items()}
            timings = self._interleaved({"": self._open(self._given), **opened}, self._enough_seconds * len(models))
            for key in models:
                found[key].append(timings[key].speedup_over(timings[""]))
        return {key: float(np.median(speeds)) for key, speeds in found.items()}

    def size(self, recipe: Recipe) -> int:
        """Return the bytes of a recipe's graph, for a recipe that was timed."""
        found = int(self._remembered(recipe, "size", lambda: self.build(recipe).ByteSize()))
        self.attempts[recipe.key] = replace(self.attempts[recipe.key], size_bytes=found)
        return found

    def judged(self, trial: Trial) -> Trial:
        """Return a trial with its score, from the core or, without one, by agreement with fp32."""
        values = self._remembered(
            trial.recipe, "score", lambda: asdict(self._score(self._open(self.build(trial.recipe))))
        )
        if trial.speedup:
            # Of the plan that it treats: other numbers in the same kernels.
            known = self.attempts[trial.recipe.key]
            self.attempts[trial.recipe.key] = replace(known, speedup=round(trial.speedup, 3))
        return replace(trial, score=Score(**values))

    def disturbance(self, recipe: Recipe) -> float:
        """Return how far a recipe moves fp32's answers: 1 - the mean cosine of the logits on a few images, in 0..2."""

        def measure() -> float:
            logits = _logits(self._open(self.build(recipe))(self._images[:PROBE_IMAGES]))
            cosines = (logits * self._logits).sum(1) / _lengths(logits) / _lengths(self._logits)
            return float(1 - np.nan_to_num(cosines, nan=-1.0).mean())

        return float(self._remembered(recipe, "disturbance", measure))

    def _remembered(self, recipe: Recipe, what: str, measure: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        value = self._journal.get(recipe.key, what)
        if value is None:
            value = measure()
            self._journal.put(recipe.key, what, value)
        if what in ("speedup", "score"):
            self._note(recipe, what, value, time.perf_counter() - begin)
        return value

    def _note(self, recipe: Recipe, what: str, value: Any, seconds: float) -> None:
        known = self.attempts.get(recipe.key) or Attempt(name=recipe.describe(self.products), verdict="")
        told = {"score": Score(**value)} if what == "score" else {"speedup": round(value, 3)}
        self.attempts[recipe.key] = replace(known, seconds=round(known.seconds + seconds, 2), **told)

    def _speedup(self, recipe: Recipe) -> float:
        candidate = self._open(self.build(recipe, for_here=True))
        timings = self._interleaved({"fp32": self._fp32, "candidate": candidate}, self._enough_seconds)
        return timings["candidate"].speedup_over(timings["fp32"])

    def _interleaved(self, predictors: Mapping[str, Predictor], seconds: float) -> dict[str, Timing]:
        from zoo.runtime.timing import interleave

        return interleave(predictors, self._images[:TIMED_IMAGES], seconds=seconds, rounds=LEAST_ROUNDS)

    @functools.cached_property
    def _enough_seconds(self) -> float:
        """A model of a tenth of a millisecond needs no second to be timed."""
        round_seconds = 4 * self._interleaved({"fp32": self._fp32}, 0.0)["fp32"].p50 / 1e3
        return min(self.effort.seconds, ENOUGH_ROUNDS * round_seconds)

    def _open(self, model: ModelProto) -> Predictor:
        from zoo.runtime.session import OnnxPredictor

        file = self._folder / f"{next(self._names)}.onnx"
        copied = _copy(model)
        seal(copied, self.request, noted(copied))
        return OnnxPredictor(save(copied, file), threads=self.request.target.threads)

    def _score(self, predict: Predictor) -> Score:
        if self.request.score:
            return self.request.score(predict)
        found, wanted = (ask(self._images[:PROBE_IMAGES]) for ask in (predict, self._fp32))
        agreement = float((found.argmax(1) == wanted.argmax(1)).mean())
        one, other = _logits(found), _logits(wanted)
        cosines = (one * other).sum(1) / _lengths(one) / _lengths(other)
        return Score(
            images=len(found),
            top1=agreement,
            drop=100 * (1 - agreement),
            agreement=agreement,
            cosine=float(np.median(cosines)),
            cosine_p10=float(np.percentile(cosines, 10)),
        )

    @functools.cached_property
    def _logits(self) -> np.ndarray:
        return _logits(self._fp32(self._images[:PROBE_IMAGES]))

    @functools.cache  # noqa: B019 - the workbench lives as long as one search
    def _variant(self, equal: bool) -> ModelProto:
        return equalized(self._plain) if equal else self._plain

    @functools.cache  # noqa: B019
    def _seen(self, equal: bool) -> Any:
        return watch(self._variant(equal), [self._images], seed=self.request.seed)

    @functools.cache  # noqa: B019
    def _ranges(self, equal: bool, calibrator: str) -> Mapping[str, Range]:
        return ranges(self._seen(equal), calibrator)

    @functools.cache  # noqa: B019
    def _means(self, equal: bool) -> Mapping[str, np.ndarray]:
        model = self._variant(equal)
        read = {node.input[0] for node in model.graph.node if node.op_type in PRODUCTS}
        return channel_means(model, [self._images[:PROBE_IMAGES]], read)


def _copy(model: ModelProto) -> ModelProto:
    import onnx

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


def _logits(probabilities: np.ndarray) -> np.ndarray:
    logs = np.log(probabilities.astype(np.float64).clip(np.finfo(np.float32).tiny))
    centred: np.ndarray = logs - logs.mean(1, keepdims=True)
    return centred


def _lengths(rows: np.ndarray) -> np.ndarray:
    lengths: np.ndarray = np.maximum(np.linalg.norm(rows, axis=1), 1e-12)
    return lengths
