"""From probabilities to labels and figures, for any numbers: what is said, how sure it is, and how right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from zoo.evaluation.labels import DEFAULT_THRESHOLD, answered, chosen, held, logits, right, tempered, tune_thresholds
from zoo.evaluation.metrics import expected_calibration_error, metrics_of, top_k

from .arrays import PROBABILITY, Judged, judged

TEMPERATURES = st.floats(0.05, 20)
SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=8)


@given(judged(several=False))
def test_of_one_label_the_most_probable_is_said_and_none_without_numbers(drawn: Judged) -> None:
    said = chosen(drawn.probabilities)
    assert said.dtype == bool
    assert said.sum(1).tolist() == np.isfinite(drawn.probabilities).all(1).astype(int).tolist()
    for row, own in zip(drawn.probabilities, said, strict=True):
        # Of several that are equally probable the first.
        assert not own.any() or own.argmax() == row.tolist().index(max(row))


@given(judged(several=True))
def test_of_several_labels_all_that_reach_their_thresholds_are_said(drawn: Judged) -> None:
    assert drawn.thresholds is not None
    for row, own in zip(drawn.probabilities, chosen(drawn.probabilities, drawn.thresholds), strict=True):
        finite = bool(np.isfinite(row).all())
        assert own.tolist() == [finite and p >= t for p, t in zip(row.tolist(), drawn.thresholds, strict=True)]


@given(judged())
def test_an_answer_that_is_no_number_is_never_right(drawn: Judged) -> None:
    found = right(drawn.labels, drawn.probabilities, drawn.thresholds)
    assert not found[~answered(drawn.probabilities)].any()
    truth = held(drawn.labels, drawn.probabilities.shape[1])
    assert right(
        drawn.labels, truth.astype(np.float32), None if drawn.thresholds is None else np.full(truth.shape[1], 0.5)
    ).all()


@given(hnp.arrays(np.float64, st.integers(1, 20), elements=PROBABILITY), TEMPERATURES)
def test_a_temperature_keeps_the_order_and_the_ends(probabilities: np.ndarray, temperature: float) -> None:
    found = tempered(probabilities, temperature)
    assert found.shape == probabilities.shape
    assert (np.diff(found[np.argsort(probabilities, kind="stable")]) >= -1e-12).all()
    assert ((found >= 0) & (found <= 1)).all()
    # On the same side of a half, and nearer to it exactly if the temperature is high.
    assert ((found - 0.5) * (probabilities - 0.5) >= -1e-12).all()
    assert ((np.abs(found - 0.5) - np.abs(probabilities - 0.5)) * (1 - temperature) >= -1e-9).all()
    assert tempered(np.array([0.0, 0.5, 1.0]), temperature).tolist() == [0.0, 0.5, 1.0]


@given(hnp.arrays(np.float64, st.integers(1, 20), elements=st.floats(1e-6, 1 - 1e-6)), TEMPERATURES)
def test_a_temperature_is_undone_by_its_inverse(probabilities: np.ndarray, temperature: float) -> None:
    gentle = max(temperature, 1.0)
    assert tempered(tempered(probabilities, gentle), 1 / gentle) == pytest.approx(probabilities, abs=1e-9)
    assert tempered(probabilities, 1.0) == pytest.approx(probabilities, abs=1e-12)


def test_a_temperature_gives_float64() -> None:
    assert tempered(np.full((1, 2), 0.5, np.float32), 2.0).dtype == np.float64


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max(1, keepdims=True))
    shares: np.ndarray = (powers / powers.sum(1, keepdims=True)).astype(np.float32)
    return shares


def sigmoid(values: np.ndarray) -> np.ndarray:
    found: np.ndarray = (1 / (1 + np.exp(-values))).astype(np.float32)
    return found


@given(hnp.arrays(np.float64, SHAPES, elements=st.floats(-30, 30)))
def test_logits_are_those_before_the_softmax_but_for_their_mean(values: np.ndarray) -> None:
    assert logits(softmax(values)) == pytest.approx(values - values.mean(1, keepdims=True), abs=1e-5)


@given(hnp.arrays(np.float64, SHAPES, elements=st.floats(-8, 8)))
def test_logits_are_those_before_the_sigmoid(values: np.ndarray) -> None:
    assert logits(sigmoid(values), multi_label=True) == pytest.approx(values, abs=1e-3)


@given(hnp.arrays(np.float64, SHAPES, elements=st.floats(0, 1)))
def test_probabilities_come_back_from_their_logits(values: np.ndarray) -> None:
    shares = ((values + 1e-9 * np.ones(values.shape)) / (values + 1e-9).sum(1, keepdims=True)).astype(np.float32)
    assert softmax(logits(shares)) == pytest.approx(shares, abs=1e-6)
    alone = values.astype(np.float32)
    assert sigmoid(logits(alone, multi_label=True)) == pytest.approx(alone, abs=1e-6)


@given(judged())
def test_the_calibration_error_is_a_share(drawn: Judged) -> None:
    assert 0 <= expected_calibration_error(drawn.labels, drawn.probabilities) <= 1
    truth = held(drawn.labels, drawn.probabilities.shape[1]).astype(np.float32)
    assert expected_calibration_error(drawn.labels, truth) == 0
    assert expected_calibration_error(drawn.labels, np.full_like(truth, np.nan)) == 1


@given(judged(several=False))
def test_among_more_classes_the_label_is_found_more_often(drawn: Judged) -> None:
    classes = drawn.probabilities.shape[1]
    found = [top_k(drawn.labels, drawn.probabilities, k) for k in range(classes + 2)]
    assert found == sorted(found)
    assert found[0] == 0
    assert found[classes:] == 2 * [np.isfinite(drawn.probabilities).all(1).mean()]


@given(judged(several=False, finite=True))
def test_the_best_of_one_is_what_is_said(drawn: Judged) -> None:
    assert top_k(drawn.labels, drawn.probabilities, 1) == right(drawn.labels, drawn.probabilities).mean()


def test_also_where_it_is_no_number() -> None:
    labels, nothing = np.array([0, 1]), np.full((2, 3), np.nan, np.float32)
    assert top_k(labels, nothing, 1) == right(labels, nothing).mean() == 0


def f1(labels: np.ndarray, said: np.ndarray) -> np.ndarray:
    """Return float64 [C]; 0 where a label is neither there nor said."""
    found: np.ndarray = 2 * (labels * said).sum(0) / np.maximum(labels.sum(0) + said.sum(0), 1)
    return found


@given(judged(several=True, finite=True))
def test_a_tuned_threshold_is_never_worse_than_a_half(drawn: Judged) -> None:
    tuned = tune_thresholds(drawn.labels, drawn.probabilities)
    assert ((tuned >= 0) & (tuned <= 1)).all()
    usual = np.full(tuned.shape, DEFAULT_THRESHOLD)
    best, before = (f1(drawn.labels, chosen(drawn.probabilities, own)) for own in (tuned, usual))
    assert (best >= before).all(), (best, before)
    there = drawn.labels.any(0)
    assert (tuned[~there] == DEFAULT_THRESHOLD).all()


@given(judged(several=True))
def test_nor_where_an_answer_that_is_no_number_counts_as_0(drawn: Judged) -> None:
    tuned = tune_thresholds(drawn.labels, drawn.probabilities)
    counted = np.nan_to_num(drawn.probabilities)
    usual = np.full(tuned.shape, DEFAULT_THRESHOLD)
    assert (f1(drawn.labels, chosen(counted, tuned)) >= f1(drawn.labels, chosen(counted, usual))).all()


@pytest.mark.xfail(
    strict=True,
    reason="labels.tune_thresholds: a NaN counts as said from threshold 0 on, where labels.chosen says nothing of it",
)
def test_nor_where_it_counts_as_saying_nothing() -> None:
    labels = np.array([[1], [1], [0]], np.uint8)
    probabilities = np.array([[np.nan], [0.9], [0.1]], np.float32)
    tuned = tune_thresholds(labels, probabilities)
    assert f1(labels, chosen(probabilities, tuned)) >= f1(labels, chosen(probabilities, np.full(1, DEFAULT_THRESHOLD)))


def numbers(value: Any) -> list[float]:
    """Return every number of nested figures but counts."""
    if isinstance(value, dict):
        return [number for key, inner in value.items() if key != "images" for number in numbers(inner)]
    return [value] if isinstance(value, float) else []


@given(judged(finite=True))
def test_every_figure_is_a_share_but_the_loss(drawn: Judged) -> None:
    found = metrics_of(drawn.labels, drawn.probabilities, drawn.classes, drawn.thresholds)
    assert found["images"] == len(drawn.labels)
    assert found.pop("loss") >= 0
    assert list(found["per_class"]) == drawn.classes
    # scikit-learn's sums of an average precision may end in a bit too many.
    assert all(0 <= number <= 1 + 1e-12 for number in numbers(found)), found
    counts = [own["images"] for own in found["per_class"].values()]
    assert counts == held(drawn.labels, len(drawn.classes)).sum(0).tolist()
    if drawn.thresholds is None:
        assert np.sum(found["confusion"]) == len(drawn.labels)
        assert np.trace(found["confusion"]) == pytest.approx(found["top1"] * len(drawn.labels))
