"""From probabilities to labels: thresholds that are truly the best, and answers that are no numbers."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

from zoo.evaluation.labels import chosen, right, thresholds_array, tune_thresholds
from zoo.evaluation.metrics import average_precisions, mean_average_precision


def scores_of(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32)


def test_one_label_is_the_most_probable_and_several_are_all_from_the_threshold_on() -> None:
    scores = scores_of([0.2, 0.5, 0.3], [0.5, 0.5, 0.0])
    assert chosen(scores).tolist() == [[False, True, False], [True, False, False]]
    assert chosen(scores, np.array([0.2, 0.6, 0.1])).tolist() == [[True, False, True], [True, False, False]]


def test_an_answer_that_is_no_number_is_never_right() -> None:
    nan = np.full((1, 2), np.nan, np.float32)
    assert not right(np.array([0]), nan).any()
    # An image without labels, of which "nothing" would be the right answer.
    assert right(np.zeros((1, 2), np.uint8), np.zeros((1, 2), np.float32), np.full(2, 0.5)).all()
    assert not right(np.zeros((1, 2), np.uint8), nan, np.full(2, 0.5)).any()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("levels", [3, 1000])
def test_no_threshold_has_a_higher_f1(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    labels = (rng.random((40, 3)) < [0.1, 0.4, 0.9]).astype(np.uint8)
    labels[0] = 1
    scores = (np.clip(rng.normal(0.4 + 0.2 * labels, 0.2), 1 / levels, 1) * levels).round().astype(np.float32) / levels
    tuned = tune_thresholds(labels, scores)
    for has, own, threshold in zip(labels.T, scores.T, tuned, strict=True):
        possible = [*np.unique(own), np.inf]
        best = max(f1_score(has, own >= value, zero_division=0) for value in possible)
        assert f1_score(has, own >= threshold) == pytest.approx(best)
        assert threshold not in own


@pytest.mark.parametrize(
    ("scores", "labels", "wanted"),
    [
        ([0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0], 0.5),
        # Saying one and saying all four have the same F1, 2/3: the wider gap wins.
        ([0.9, 0.5, 0.45, 0.1], [1, 0, 0, 1], 0.7),
        ([0.9, 0.8, 0.7, 0.3], [1, 0, 0, 1], 0.15),
        # Both gaps are 0.25: the higher one wins.
        ([1.0, 0.75, 0.5, 0.25], [1, 0, 0, 1], 0.875),
        ([0.9, 0.8, 0.2, 0.1], [0, 0, 0, 0], 0.5),
        ([0.8, 0.6], [1, 1], 0.3),
        ([np.nan, 0.6], [0, 1], 0.3),
    ],
)
def test_a_threshold_keeps_clear_of_the_scores_around_it(scores: list[float], labels: list[int], wanted: float) -> None:
    order = [2, 0, 3, 1] if len(scores) == 4 else [1, 0]
    for turn in (slice(None), order):
        column = np.array(scores, np.float32)[turn, None]
        assert tune_thresholds(np.array(labels, np.uint8)[turn, None], column) == pytest.approx([wanted])


def test_average_precision_leaves_out_what_no_image_has() -> None:
    labels = np.array([[1, 0, 0], [0, 0, 1], [1, 0, 1]], np.uint8)
    scores = scores_of([0.9, 0.1, 0.8], [0.6, 0.2, 0.4], [0.3, 0.3, 0.9])
    wanted = [average_precision_score(labels[:, i], scores[:, i]) for i in (0, 2)]
    found = average_precisions(labels, scores)
    assert np.isnan(found[1])
    assert found[[0, 2]] == pytest.approx(wanted)
    assert mean_average_precision(labels, scores) == pytest.approx(np.mean(wanted))
    assert mean_average_precision(np.zeros_like(labels), scores) == 0


def test_average_precision_takes_no_number_for_the_worst() -> None:
    labels = np.array([[1, 0], [1, 1], [0, 1]], np.uint8)
    good = scores_of([0.9, 0.1], [0.8, 0.7], [0.1, 0.9])
    bad = good.copy()
    bad[0] = np.nan
    assert mean_average_precision(labels, good) == 1
    assert average_precisions(labels, bad)[0] < 1
    assert average_precisions(labels, bad)[1] < 1


def test_equal_rankings_are_equal_to_the_last_bit() -> None:
    for images in range(2, 200):
        labels = (np.arange(images) % 3 == 0).astype(np.uint8)[:, None]
        assert mean_average_precision(labels, labels * np.linspace(0.5, 1, images, dtype=np.float32)[:, None]) == 1.0


def test_a_class_without_a_threshold_has_the_usual_one() -> None:
    assert thresholds_array({"b": 0.25}, ("a", "b")).tolist() == [0.5, 0.25]
