"""Whether two forms of a model answer alike: on pictures of noise, at several batch sizes, beside a control."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from zoo.plugin import ExportRequest, Predictor

BATCHES = (1, 2, 5)
LIMIT = 5e-3
"""Of the logits' scale. levit differs by 2e-3 whoever exports it."""
CONTROL_FACTOR = 10
"""As in the proof of the whole file: the least change of input that moves the reference by a tenth excuses the rest."""
SMALLEST_SCALE = 1e-3
"""Of logits: a head of zeros has none."""
SATURATED = 10.0
"""The logit from which on a sigmoid's result has too few digits to tell it."""
DARK, BRIGHT, USUAL = (0, 40), (216, 256), (0, 256)
RANGES = (DARK, BRIGHT, BRIGHT)
"""Of the first pictures' brightness, a batch for each: code that depends on pixels should show."""


class Parity:
    """The answers of `request.model`, and how far others are from them."""

    def __init__(self, request: ExportRequest) -> None:
        self._model = request.model
        self._multi_label = request.multi_label
        self.pictures = pictures(sum(BATCHES), request.preprocess.size, seed=request.seed)

    def objection(self, predict: Predictor) -> str:
        """Say in a few words how `predict` answers otherwise; nothing if it does not.

        Raises:
            Exception: whatever the predictor raises.
        """
        if not all(np.isfinite(answers).all() for answers in self._reference):
            return "the model itself gives answers that are not finite"
        for batch, gap in zip(BATCHES, self._gaps(predict), strict=True):
            if not gap <= LIMIT and not gap <= self._limit:
                return (
                    f"its answers in a batch of {batch} differ from the model's by {gap:.2g} of the logits' scale, "
                    f"limit {self._limit:.2g}"
                )
        return ""

    @functools.cached_property
    def _reference(self) -> list[np.ndarray]:
        return [self._logits(eager(self._model)(images)) for images in self._batches()]

    @functools.cached_property
    def _limit(self) -> float:
        return max(LIMIT, CONTROL_FACTOR * max(self._gaps(nudged(self._model))))

    def _batches(self) -> list[np.ndarray]:
        return np.split(self.pictures, np.cumsum(BATCHES)[:-1])

    def _gaps(self, predict: Predictor) -> Iterator[float]:
        """Yield the largest difference in each batch, as a share of the logits' scale."""
        scale = max(*(float(np.abs(answers).max()) for answers in self._reference), SMALLEST_SCALE)
        for images, expected in zip(self._batches(), self._reference, strict=True):
            found = self._logits(predict(images))
            same_shape = found.shape == expected.shape
            gap = float(np.abs(found - expected).max()) / scale if same_shape else math.inf
            yield math.inf if math.isnan(gap) else gap

    def _logits(self, probabilities: np.ndarray) -> np.ndarray:
        """Return logits, after a softmax centred on each row's mean, which it knows nothing of: float64 [N, C]."""
        held = probabilities.astype(np.float64)
        with np.errstate(divide="ignore"):
            if self._multi_label:
                logits: np.ndarray = (np.log(held) - np.log1p(-held)).clip(-SATURATED, SATURATED)
                return logits
            logs = np.log(held.clip(np.finfo(np.float32).tiny))
        centred: np.ndarray = logs - logs.mean(-1, keepdims=True)
        return centred


def pictures(count: int, size: tuple[int, int], *, seed: int = 0) -> np.ndarray:
    """Draw noise on large blocks of colour, which has more of a picture's spectrum: uint8 [count, *size, 3]."""
    rng = np.random.default_rng(seed)
    drawn = []
    for index in range(count):
        low, high = RANGES[index] if index < len(RANGES) else USUAL
        blocks = rng.integers(low, high, (4, 4, 3))
        rows, columns = (np.arange(side) * 4 // side for side in size)
        noise = rng.normal(0, 10, (*size, 3))
        drawn.append((blocks[rows][:, columns] + noise).clip(low, high - 1).astype(np.uint8))
    return np.stack(drawn)


def eager(model: torch.nn.Module) -> Predictor:
    """Return the predictor that a module is, on the CPU."""
    import torch

    def predict(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            answers = model(torch.from_numpy(images.copy()))
            return np.asarray((answers[0] if isinstance(answers, tuple) else answers).numpy())

    return predict


def nudged(model: torch.nn.Module) -> Predictor:
    """Return the same, with every normalised pixel moved to the next number that fp32 has."""
    import torch

    def nudge(_: object, __: object, pixels: torch.Tensor) -> torch.Tensor:
        return torch.nextafter(pixels, torch.full_like(pixels, torch.inf))

    def predict(images: np.ndarray) -> np.ndarray:
        handle = model.get_submodule("normalise").register_forward_hook(nudge)
        try:
            return eager(model)(images)
        finally:
            handle.remove()

    return predict
