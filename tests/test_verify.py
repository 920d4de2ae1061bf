"""Decisions on arrays: what counts as a drop, what is refused, and that NaN never passes."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.exporting.compare import agree, compare, drop_interval
from zoo.exporting.limits import Budget, findings

CLASSES = ("a", "b", "c")


def one_hot(labels: list[int]) -> np.ndarray:
    return np.eye(3, dtype=np.float32)[labels]


def numbers(labels: list[int], before: list[int], after: np.ndarray) -> dict[str, object]:
    return {**compare(np.array(labels), one_hot(before), after, CLASSES), "batches": {}}


def test_a_drop_is_counted_in_points_of_paired_images() -> None:
    found = numbers([0, 1, 2, 0], [0, 1, 2, 1], one_hot([0, 1, 0, 0]))
    assert found["reference_top1"] == 0.75
    assert found["artifact_top1"] == 0.75
    assert found["drop"] == 0
    assert found["flips"] == 2


def test_classes_are_reported_apart() -> None:
    found = compare(np.array([0, 0, 1]), one_hot([0, 0, 1]), one_hot([0, 1, 1]), CLASSES)
    assert found["per_class"]["a"].artifact_top1 == 0.5
    assert found["per_class"]["b"].artifact_top1 == 1.0
    assert "c" not in found["per_class"]


def test_nan_counts_as_wrong_and_as_the_largest_difference() -> None:
    after = one_hot([0, 1])
    after[1] = np.nan
    found = compare(np.array([0, 0]), one_hot([0, 0]), after, CLASSES)
    assert found["artifact_top1"] == 0.5
    assert found["max_probability_difference"] == 1.0


def test_nan_is_never_accepted() -> None:
    after = np.full((2, 3), np.nan, np.float32)
    assert findings(numbers([0, 1], [0, 1], after), Budget(max_drop=100.0), "fp32")


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (3, 0), (0, 3), (5, 4), (200, 0)])
def test_the_interval_holds_the_drop_and_stays_in_range(lost: int, gained: int) -> None:
    low, high = drop_interval(lost, gained, 200)
    assert -100 <= low < high <= 100
    assert low <= 100 * (lost - gained) / 200 <= high or lost == 200


def test_the_interval_agrees_with_the_published_formula() -> None:
    # Agresti and Min (2005): b = 16, c = 4, n = 100, with 0.5 added to each cell.
    difference, n = (16.5 - 4.5) / 102, 102
    half = 1.959964 * np.sqrt((16.5 + 4.5) - (16.5 - 4.5) ** 2 / n) / n
    assert drop_interval(16, 4, 100) == pytest.approx((100 * (difference - half), 100 * (difference + half)))


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(2000):
        b, c, _same = rng.multinomial(180, [0.03, 0.01, 0.96])
        low, high = drop_interval(int(b), int(c), 180)
        inside += low <= 2.0 <= high
    assert inside / 2000 > 0.93


def test_int8_is_judged_by_accuracy_and_speed_not_by_differences() -> None:
    after = one_hot([0, 1]) * 0.6 + 0.1
    report = numbers([0, 1], [0, 1], after.astype(np.float32))
    assert findings(report, Budget(), "int8") == []
    assert findings(report, Budget(), "fp32")


@pytest.mark.parametrize(("speedup", "refused"), [(0.99, True), (1.0, False), (2.0, False), (float("nan"), True)])
def test_a_slower_file_is_refused(speedup: float, refused: bool) -> None:
    report = {**numbers([0, 1], [0, 1], one_hot([0, 1])), "speedup": speedup}
    assert bool(findings(report, Budget(min_speedup=1.0), "int8")) is refused


def test_a_batch_that_changes_the_answer_is_refused() -> None:
    report = {**numbers([0, 1], [0, 1], one_hot([0, 1])), "batches": {"1": 0.0, "5": 0.2}}
    (finding,) = findings(report, Budget(), "fp32")
    assert "batch of 5" in str(finding)


def test_agreement_counts_flips() -> None:
    assert agree(one_hot([0, 1, 2]), one_hot([0, 2, 2])).flips == 1


HALF = np.full(2, 0.5)


def test_several_labels_are_right_only_all_together() -> None:
    labels = np.array([[1, 1], [1, 0], [0, 0], [0, 1]], np.uint8)
    before = labels.astype(np.float32)
    after = before.copy()
    after[0, 1] = after[2, 0] = 0.6
    found = compare(labels, before, after, ("a", "b"), HALF)
    assert (found["reference_top1"], found["artifact_top1"]) == (1.0, 0.75)
    assert (found["drop"], found["flips"]) == (25.0, 1)
    assert found["per_class"]["a"].images == 2
    assert found["per_class"]["a"].artifact_top1 == 1.0
    after[0, 1] = 0.4
    assert compare(labels, before, after, ("a", "b"), HALF)["per_class"]["b"].artifact_top1 == 0.5
    assert compare(labels, before, after, ("a", "b"), np.full(2, 0.3))["per_class"]["b"].artifact_top1 == 1.0


def test_no_number_is_no_empty_set_of_labels() -> None:
    labels = np.zeros((2, 2), np.uint8)
    labels[0] = 1
    after = labels.astype(np.float32)
    after[1] = np.nan
    found = compare(labels, labels.astype(np.float32), after, ("a", "b"), HALF)
    assert (found["artifact_top1"], found["flips"]) == (0.5, 1)


def test_a_drop_of_map_is_refused_where_exact_match_sees_none() -> None:
    labels = np.array([[1, 1], [1, 0], [0, 1], [0, 0]], np.uint8)
    before = np.array([[0.4, 0.9], [0.3, 0.2], [0.2, 0.9], [0.1, 0.1]], np.float32)
    after = before.copy()
    # Below its threshold on both sides, but ranked last.
    after[0, 0] = 0.05
    found = {**compare(labels, before, after, ("a", "b"), HALF), "batches": {}}
    assert found["drop"] == 0
    assert found["flips"] == 0
    assert found["reference_map"] == 1.0
    assert found["map_drop"] == pytest.approx(100 * (1.0 - found["artifact_map"]))
    (finding,) = findings(found, Budget(max_drop=5), "int8")
    assert "mAP" in str(finding)
    assert not findings(found, Budget(max_drop=found["map_drop"]), "int8")


def test_a_drop_of_exact_match_is_called_so() -> None:
    labels = np.array([[1, 0], [0, 1]], np.uint8)
    before = labels.astype(np.float32)
    found = {**compare(labels, before, before * 0.4, ("a", "b"), HALF), "batches": {}}
    (finding,) = findings(found, Budget(), "int8")
    assert str(finding) == "drop of exact match in points 100, limit 1"


@pytest.mark.parametrize(
    ("precision", "between", "refused"),
    [("int8-weights", 5e-3, True), ("int4-weights", 5e-3, True), ("fp16", 5e-3, False), ("dynamic", 4e-2, False)],
)
def test_a_batch_may_change_answers_only_where_ranges_are_dynamic(
    precision: str, between: float, refused: bool
) -> None:
    report = {**numbers([0, 1], [0, 1], one_hot([0, 1])), "batches": {"5": between}}
    assert bool(findings(report, Budget(), precision)) is refused


def test_fp16_may_move_a_probability_a_little() -> None:
    after = one_hot([0, 1])
    after[0] = (0.97, 0.03, 0)
    assert findings(numbers([0, 1], [0, 1], after), Budget(), "fp16") == []
    after[0] = (0.94, 0.06, 0)
    assert findings(numbers([0, 1], [0, 1], after), Budget(), "fp16")
