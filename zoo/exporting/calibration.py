"""Answers that can be believed: a temperature for the logits, and a threshold below which an image is unknown."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import OptionInvalid
from zoo.evaluation.labels import held, logits, thresholds_of
from zoo.evaluation.metrics import expected_calibration_error
from zoo.exporting.judge import CHOOSES
from zoo.records.answers import eager, probabilities
from zoo.records.manifest import Temperature, UnknownOutput

if TYPE_CHECKING:
    from zoo.contracts.unknown import UnknownBy
    from zoo.records.trained import Trained

LEAST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.01, 100.0
FURTHEST_THRESHOLD = 10.0
"""Of a label's logit, after division: nearer to 0 or 1 float32 has no numbers left to tell two probabilities apart."""


def calibrate(trained: Trained) -> Trained:
    """Return the same with a temperature fitted on the validation images, and what it changed there."""
    scores, thresholds = _logits(trained, CHOOSES), thresholds_of(trained.record)
    value = fit_temperature(trained.data.splits[CHOOSES].labels, scores, thresholds)
    before, after = (_error(trained, CHOOSES, scores / division) for division in (1.0, value))
    told = {"ece_before": {CHOOSES: before}, "ece_after": {CHOOSES: after}}
    return trained.at(Temperature(value=value, split=CHOOSES, **told))


def tell_unknown(trained: Trained, rate: float, by: UnknownBy) -> Trained:
    """Return the same with the output `unknown`, its threshold chosen on the validation images.

    Args:
        trained: Calibrated already, if that is wanted.
        rate: In 0..1: the share of known images that may be called unknown.
        by: How an image's score is counted.

    Raises:
        OptionInvalid: the rate is less than one image of the split.
    """
    scores = _known_scores(trained, CHOOSES, by)
    threshold = known_threshold(scores, rate)
    told = {CHOOSES: _below(scores, threshold)}
    return trained.telling(
        UnknownOutput(by=by, threshold=threshold, rate=rate, split=CHOOSES, known_called_unknown=told)
    )


def told_on(trained: Trained, split: str) -> Trained:
    """Return the same, telling also how its temperature and its threshold do on a split that has chosen neither."""
    temperature, unknown = trained.temperature, trained.unknown_output
    if temperature:
        scores = _logits(replace(trained, temperature=None), split)
        before, after = (_error(trained, split, scores / division) for division in (1.0, temperature.value))
        told = {"ece_before": {**temperature.ece_before, split: before}}
        temperature = temperature.model_copy(update={**told, "ece_after": {**temperature.ece_after, split: after}})
    if unknown:
        share = _below(_known_scores(trained, split, unknown.by), unknown.threshold)
        shares = {**unknown.known_called_unknown, split: share}
        unknown = unknown.model_copy(update={"known_called_unknown": shares})
    return replace(trained, temperature=temperature, unknown_output=unknown)


def fit_temperature(labels: np.ndarray, scores: np.ndarray, thresholds: np.ndarray | None = None) -> float:
    """Return the temperature with the lowest negative log-likelihood (Guo et al., 2017), above 0.

    Each target keeps as much doubt as the number of images leaves, 1 in n + 2 (as Platt, "Probabilistic outputs for
    support vector machines", 1999): a model that is right about all of them would become sure without end.

    Args:
        labels: int64 [N], or uint8 [N, C] in {0, 1}.
        scores: float32 [N, C], the logits.
        thresholds: float64 [C] of the labels' probabilities, if the labels are uint8 [N, C]. They limit how low the
            temperature may be, so that float32 can still tell what lies above a threshold and what below.
    """
    from scipy.optimize import minimize_scalar

    several, scores = labels.ndim == 2, scores.astype(np.float64)
    doubt = 1 / (len(scores) + 2)
    others = 1 if several else scores.shape[1] - 1
    targets = np.where(held(labels, scores.shape[1]), 1 - doubt, doubt / others)

    def loss(log_temperature: float) -> float:
        divided = scores / np.exp(log_temperature)
        total = np.logaddexp(0, divided) if several else np.logaddexp.reduce(divided, axis=1, keepdims=True) * targets
        return float((total - targets * divided).sum() / len(scores))

    least = LEAST_TEMPERATURE
    if thresholds is not None:
        furthest = float(np.abs(logits(thresholds[None], multi_label=True)).max())
        least = max(least, min(1.0, furthest / FURTHEST_THRESHOLD))
    bounds = (np.log(least), np.log(HIGHEST_TEMPERATURE))
    found = float(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x)
    return float(np.exp(found)) if loss(found) < loss(0.0) else 1.0


def known_threshold(scores: np.ndarray, rate: float) -> float:
    """Return the score, a float32 number, below which at most `rate` of known images lie.

    It lies halfway between two images, so that rounding moves none across.

    Args:
        scores: float32 [N].
        rate: In 0..1.

    Raises:
        OptionInvalid: that is less than one image.
    """
    below = int(rate * len(scores) + 1e-9)
    if not 0 < below < len(scores):
        raise OptionInvalid(
            f"--unknown {rate:g} of {len(scores)} validation images is {below} of them; give a share from "
            f"{1 / len(scores):.2g} to below 1"
        )
    ordered = np.sort(scores.astype(np.float64))
    return float(np.float32((ordered[below - 1] + ordered[below]) / 2))


def _error(trained: Trained, split: str, scores: np.ndarray) -> float:
    answers = _answers(scores, trained.record.multi_label)
    return expected_calibration_error(trained.data.splits[split].labels, answers)


def _known_scores(trained: Trained, split: str, by: UnknownBy) -> np.ndarray:
    """Return how known each image of a split looks, float32 [N]."""
    import torch

    from zoo.contracts.shipped import known_score

    scores = torch.from_numpy(_logits(trained, split))
    found: np.ndarray = known_score(scores, by, trained.record.multi_label).numpy()
    return found


def _below(scores: np.ndarray, threshold: float) -> float:
    return float((scores < np.float32(threshold)).mean())


def _answers(scores: np.ndarray, multi_label: bool) -> np.ndarray:
    import torch

    answers = torch.from_numpy(scores)
    found: np.ndarray = (answers.sigmoid() if multi_label else answers.softmax(-1)).numpy()
    return found


def _logits(trained: Trained, split: str) -> np.ndarray:
    """Return float32 [N, C] of the backbone, divided by the temperature if there is one."""
    import torch

    predict = eager(torch.nn.Sequential(trained.shipped.get_submodule("normalise"), trained.backbone))
    return probabilities(predict, trained.data.splits[split], trained.preprocess, workers=trained.workers)
