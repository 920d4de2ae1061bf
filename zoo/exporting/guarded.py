"""A model file that may crash or answer nonsense: whoever asks it gets an answer all the same, and the reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import first_line

if TYPE_CHECKING:
    from zoo.contracts.plugins import Predictor


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

    def unknown(self, images: np.ndarray) -> np.ndarray:
        """Return which images are unknown, bool [N]; none from the first fault on."""
        predict: Any = self.predict
        if not self.fault:
            try:
                _, told = predict.with_unknown(images)
            except Exception as exc:
                self.fault = f"it does not tell what is unknown: {first_line(exc)}"
            else:
                self.fault = _why_wrong_unknown(told, len(images))
        return np.zeros(len(images), bool) if self.fault else np.asarray(told)


def _why_wrong(answers: object, shape: tuple[int, int]) -> str:
    if not isinstance(answers, np.ndarray) or answers.shape != shape or answers.dtype != np.float32:
        got = f"{answers.dtype} {list(answers.shape)}" if isinstance(answers, np.ndarray) else type(answers).__name__
        return f"it gives {got}, expected float32 {list(shape)}"
    return "" if np.isfinite(answers).all() else "it gives answers that are not finite"


def _why_wrong_unknown(told: object, count: int) -> str:
    if isinstance(told, np.ndarray) and told.shape == (count,) and told.dtype == np.bool_:
        return ""
    got = f"{told.dtype} {list(told.shape)}" if isinstance(told, np.ndarray) else type(told).__name__
    return f"its output `unknown` is {got}, expected bool [{count}]"
