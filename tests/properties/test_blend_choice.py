"""Which weights between a run's beginning and its end ship, for any scores: never worse than where it began."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zoo.training.learn.blend import SHARES, Blend, between, choose, standard_error

if TYPE_CHECKING:
    from collections.abc import Sequence

SCORES = st.floats(0, 1) | st.sampled_from([0.0, 0.9, 0.9001, 0.91, 1.0])
LOSSES = st.floats(-10, -0.001)
"""Scores of runs that watch the loss: the higher the better as well, but no shares."""
IMAGES = st.integers(1, 10**6)
EPOCHS = st.lists(SCORES, min_size=1, max_size=5)
BLENDS = st.lists(SCORES, min_size=1, max_size=len(SHARES))
MANY, ROUNDING = 10**6, 1e-12


def blends_of(scores: Sequence[float]) -> list[Blend]:
    return [Blend(share=share, weights={}, score=score, loss=0.0) for share, score in zip(SHARES, scores, strict=False)]


def chosen(scores: Sequence[float], epochs: Sequence[float], images: int) -> int | None:
    """Return which of the blends is chosen."""
    blends = blends_of(scores)
    found = choose(blends, epochs, images)
    return next((number for number, blend in enumerate(blends) if blend is found), None)


@given(BLENDS, EPOCHS, IMAGES)
def test_no_blend_ships_that_is_below_the_beginning(scores: list[float], epochs: list[float], images: int) -> None:
    found = choose(blends_of(scores), epochs, images)
    assert found is None or found.score >= epochs[0]


@given(BLENDS, EPOCHS, IMAGES)
def test_the_first_that_is_good_enough_ships(scores: list[float], epochs: list[float], images: int) -> None:
    found = chosen(scores, epochs, images)
    best = max(scores + epochs)
    enough = [score >= max(epochs[0], best - standard_error(best, images)) for score in scores]
    assert found == (enough.index(True) if any(enough) else None)
    # Whatever an error is: the best of all is always good enough.
    assert found is not None or max(scores) < best


@given(BLENDS, EPOCHS)
def test_of_a_million_images_only_rounding_is_given_away(scores: list[float], epochs: list[float]) -> None:
    found = choose(blends_of(scores), epochs, MANY)
    assert found is None or max(scores + epochs) - found.score <= 0.5 / math.sqrt(MANY) + ROUNDING


@given(BLENDS, EPOCHS, IMAGES, st.integers(1, 100))
def test_more_images_never_make_a_worse_one_good_enough(
    scores: list[float], epochs: list[float], images: int, times: int
) -> None:
    before, after = chosen(scores, epochs, images), chosen(scores, epochs, images * times)
    assert after is None or (before is not None and before <= after)


@given(st.lists(LOSSES, min_size=1, max_size=3), st.lists(LOSSES, min_size=1, max_size=5), IMAGES)
def test_where_the_loss_decides_only_the_best_ships(scores: list[float], epochs: list[float], images: int) -> None:
    best = max(scores + epochs)
    assert chosen(scores, epochs, images) == (scores.index(best) if best in scores else None)


@given(SCORES, IMAGES)
def test_an_error_is_never_more_than_half_over_the_root(score: float, images: int) -> None:
    assert 0 < standard_error(score, images) <= 0.5 / math.sqrt(images) + ROUNDING
    assert standard_error(score, images) == pytest.approx(standard_error(1 - score, images))


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=1, max_size=8), st.floats(0, 1))
def test_weights_on_the_way_lie_between_both_ends(pairs: list[tuple[float, float]], share: float) -> None:
    beginning, end = (
        {"weight": torch.tensor(values), "seen": torch.tensor(n)} for n, values in enumerate(zip(*pairs, strict=True))
    )
    found = between(beginning, end, share)
    low, high = (pick(beginning["weight"], end["weight"]) for pick in (torch.minimum, torch.maximum))
    assert ((found["weight"] >= low - 1e-3) & (found["weight"] <= high + 1e-3)).all()
    assert int(found["seen"]) == 1
    for own, whole in ((0.0, beginning), (1.0, end)):
        assert torch.equal(between(beginning, end, own)["weight"], whole["weight"])
