"""An artifact beside its reference, for any answers: both ways the same, nothing found where nothing changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zoo.evaluation.labels import answered
from zoo.exporting.compare import agree, compare, differing, drop_interval, fidelity
from zoo.exporting.limits import Budget, findings
from zoo.records.manifest import Report

from .arrays import Judged, judged

PRECISIONS = ("fp32", "fp16", "int8", "dynamic", "int8-weights", "int4-weights", "fp32, pruned")
BATCHES = st.dictionaries(st.sampled_from([2, 8, 64]), st.just(0.0))


def compared(drawn: Judged, *, swapped: bool = False) -> dict[str, Any]:
    one, other = (drawn.others, drawn.probabilities) if swapped else (drawn.probabilities, drawn.others)
    return compare(drawn.labels, one, other, drawn.classes, drawn.thresholds)


def unchanged(drawn: Judged) -> dict[str, Any]:
    return compare(drawn.labels, drawn.probabilities, drawn.probabilities.copy(), drawn.classes, drawn.thresholds)


@given(judged())
def test_agreement_is_the_same_both_ways(drawn: Judged) -> None:
    found = agree(drawn.probabilities, drawn.others, drawn.thresholds)
    assert found == agree(drawn.others, drawn.probabilities, drawn.thresholds)
    assert 0 <= found.flips <= len(drawn.labels)
    assert 0 <= found.max_probability_difference <= 1


@given(judged())
def test_equal_answers_agree(drawn: Judged) -> None:
    found = agree(drawn.probabilities, drawn.probabilities.copy(), drawn.thresholds)
    assert found.flips == 0
    # Of two answers that are no numbers none can say how far they are apart.
    assert found.max_probability_difference == (not answered(drawn.probabilities).all())


COUNTS = st.integers(1, 10**6).flatmap(
    lambda images: st.integers(0, images).flatmap(
        lambda lost: st.tuples(st.just(lost), st.integers(0, images - lost), st.just(images))
    )
)


@given(COUNTS)
@example((1, 0, 1))
@example((0, 1, 1))
@example((0, 0, 1))
@example((10**6, 0, 10**6))
def test_the_interval_holds_the_drop(counts: tuple[int, int, int]) -> None:
    lost, gained, images = counts
    low, high = drop_interval(lost, gained, images)
    assert -100 <= low <= 100 * (lost - gained) / images <= high <= 100
    # And it is as wide the other way round.
    assert drop_interval(gained, lost, images) == pytest.approx((-high, -low))


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 100))
def test_more_images_of_the_same_kind_narrow_it(lost: int, gained: int, times: int) -> None:
    low, high = drop_interval(lost, gained, 100)
    closer = drop_interval(lost * times, gained * times, 100 * times)
    assert closer[1] - closer[0] <= high - low + 1e-9


@given(judged())
def test_the_figures_fit_together(drawn: Judged) -> None:
    found, back = compared(drawn), compared(drawn, swapped=True)
    before, after = found["reference_top1"], found["artifact_top1"]
    assert found["drop"] == pytest.approx(100 * (before - after))
    low, high = found["drop_interval"]
    assert low <= found["drop"] <= high
    assert (back["reference_top1"], back["artifact_top1"]) == (after, before)
    assert back["drop"] == -found["drop"]
    assert back["flips"] == found["flips"]
    assert -1 - 1e-9 <= found["fidelity"].cosine_p10 <= found["fidelity"].cosine <= 1 + 1e-9
    assert all(0 <= own.reference_top1 <= 1 and 0 <= own.artifact_top1 <= 1 for own in found["per_class"].values())


@given(judged(finite=True), st.sampled_from(PRECISIONS), BATCHES, st.floats(0, 100), st.none() | st.floats(0, 1))
def test_nothing_is_found_where_nothing_changed(
    drawn: Judged, precision: str, batches: dict[int, float], max_drop: float, min_speedup: float | None
) -> None:
    report = {**unchanged(drawn), "batches": batches, "speedup": 1.0}
    assert findings(report, Budget(max_drop=max_drop, min_speedup=min_speedup), precision) == []
    assert report["drop"] == report["flips"] == report["max_probability_difference"] == 0
    assert report["fidelity"].logit_difference == 0


@given(judged(finite=True), st.sampled_from(PRECISIONS))
def test_what_is_over_the_limit_is_always_found(drawn: Judged, precision: str) -> None:
    report = {**compared(drawn), "batches": {}}
    for max_drop in (0.0, 1.0, 50.0):
        found = findings(report, Budget(max_drop=max_drop), precision)
        over = report["drop"] > max_drop or report.get("map_drop", 0) > max_drop
        assert any(line.what.startswith("drop of ") for line in found) == over
        assert all(line.measured > line.limit for line in found)


@given(judged(finite=True))
def test_the_logits_of_equal_answers_point_the_same_way(drawn: Judged) -> None:
    several = drawn.thresholds is not None
    found = fidelity(drawn.probabilities, drawn.probabilities.copy(), multi_label=several)
    assert found.cosine == pytest.approx(1)
    assert found.cosine_p10 == pytest.approx(1)


@pytest.mark.parametrize("several", [False, True])
def test_so_do_those_of_equal_answers_that_say_nothing(several: bool) -> None:
    even = np.full((1, 2), 0.5, np.float32)
    assert fidelity(even, even, multi_label=several).cosine == pytest.approx(1)


@given(judged(finite=True), st.sampled_from(PRECISIONS))
def test_a_report_given_again_differs_in_nothing(drawn: Judged, precision: str) -> None:
    rest: dict[str, Any] = {"split": "val", "size_bytes": 1, "max_drop": 1.0, "min_speedup": None, "batches": {}}
    figures = {**compared(drawn), **rest}
    reasons = tuple(map(str, findings(figures, Budget(), precision)))
    report = Report(accepted=not reasons, reasons=reasons, **figures)
    assert differing(report, report) == []
    assert differing(report, Report.model_validate_json(report.model_dump_json())) == []
