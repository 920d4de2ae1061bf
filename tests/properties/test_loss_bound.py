"""The bound of a loss: exact for any number of images, Clopper and Pearson's where nothing was gained."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, multinomial

from zoo.evaluation.paired import images_needed, loss_bound

IMAGES = (21, 163, 299, 1000, 5000)
PLANTED = (0, 1, 5)


def clopper_pearson(lost: int, images: int, confidence: float) -> float:
    """Return the upper end in points, by scipy: a two-sided interval leaves half of its doubt on each side."""
    interval = binomtest(lost, images).proportion_ci(2 * confidence - 1, method="exact")
    return 100 * float(interval.high)


@pytest.mark.parametrize(("images", "lost"), [*itertools.product(IMAGES, PLANTED)])
def test_it_is_scipys_where_nothing_was_gained(images: int, lost: int) -> None:
    for confidence in (0.9, 0.95, 0.99):
        wanted = clopper_pearson(lost, images, confidence)
        assert loss_bound(lost, 0, images, confidence) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(("lost", "needed"), [(0, 299), (1, 473), (5, 1049)])
def test_the_images_needed_are_the_first_that_do(lost: int, needed: int) -> None:
    assert images_needed(lost, 0, 21, max_drop=1.0) == needed
    assert clopper_pearson(lost, needed, 0.95) <= 1.0 < clopper_pearson(lost, needed - 1, 0.95)


def test_what_is_enough_already_needs_no_more_and_nothing_proves_a_loss_of_none() -> None:
    assert images_needed(0, 0, 1000, max_drop=1.0) == 1000
    assert images_needed(0, 0, 1000, max_drop=0.0) is None


@pytest.mark.parametrize(("images", "confidence"), [(3, 0.95), (9, 0.8), (16, 0.95), (16, 0.99)])
def test_it_covers_every_loss_at_least_as_often_as_it_says(images: int, confidence: float) -> None:
    """By every outcome that there is, for losses and gains all over the triangle: nothing is drawn."""
    outcomes = [(b, c) for b in range(images + 1) for c in range(images + 1 - b)]
    bounds = np.array([loss_bound(b, c, images, confidence) for b, c in outcomes])
    counts = np.array([(b, c, images - b - c) for b, c in outcomes])
    for lost, gained in itertools.product(range(21), range(21)):
        if lost + gained <= 20:
            chances = multinomial.pmf(counts, images, [lost / 20, gained / 20, (20 - lost - gained) / 20])
            covered = bounds >= 5 * (lost - gained) - 1e-6
            assert chances[covered].sum() >= confidence - 1e-4, (lost, gained)


@pytest.mark.parametrize("loss", [0.0, 0.2, 0.5, 1.0, 2.0, 5.0])
def test_two_thousand_draws_are_covered_at_the_stated_rate(loss: float) -> None:
    """Of 400 images, 1 % of which the artifact alone gets right."""
    draws = np.random.default_rng(7).multinomial(400, [loss / 100 + 0.01, 0.01, 0.98 - loss / 100], 2000)
    covered = np.mean([loss_bound(int(lost), int(gained), 400) >= loss for lost, gained, _ in draws])
    # Three standard errors of the share of 2,000 draws.
    assert covered >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 2000)


@given(st.integers(1, 60), st.data())
def test_it_rises_with_what_was_lost_and_falls_with_what_was_gained(images: int, data: st.DataObject) -> None:
    lost = data.draw(st.integers(0, images))
    gained = data.draw(st.integers(0, images - lost))
    bound = loss_bound(lost, gained, images)
    assert 0 <= bound <= 100
    assert bound >= 100 * (lost - gained) / images - 1e-6
    if lost + gained < images:
        assert loss_bound(lost + 1, gained, images) >= bound - 1e-4
        assert loss_bound(lost, gained + 1, images) <= bound + 1e-4
    assert loss_bound(lost, gained, images, 0.99) >= bound - 1e-4


def test_gained_images_count_for_the_file() -> None:
    """Lost and gained in balance, as rounding flips images that lie between two classes."""
    assert loss_bound(12, 10, 2000) < 0.6 < clopper_pearson(12, 2000, 0.95)
