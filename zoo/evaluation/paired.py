"""What a change may have cost, judged by the same images before and after: an exact bound of the loss."""

from __future__ import annotations

import functools
import math

import numpy as np

SPREAD = 9.0
"""Standard deviations around the mean of a count beyond which its chance, below 1e-15, is left out."""
NUISANCES = 24
"""Shares of gained images that are tried: so many close to none, so many evenly, so many beside the best of them."""


@functools.lru_cache(maxsize=4096)
def loss_bound(lost: int, gained: int, images: int, confidence: float = 0.95) -> float:
    """Return the upper end of the exact one-sided interval of a loss, in points, 0 or more.

    The loss is the share of all images there are that only the reference gets right, less the share of those that only
    the artifact gets right; what was drawn of them is paired. Buehler's limit ("Confidence intervals for the product of
    two binomial parameters", JASA 52, 1957), as Lloyd and Moldovan have it for pairs ("Exact one-sided confidence
    limits for the difference between two correlated proportions", Statistics in Medicine 26, 2007): the largest loss at
    which, for some share of gained images, no worse an outcome than this one has a chance of 1 - confidence. Which of
    two outcomes is worse is told by the usual approximate limit. Where nothing was gained it is Clopper and Pearson's.

    Args:
        lost: Images that only the reference got right.
        gained: Images that only the artifact got right.
        images: All of them, at least 1.
        confidence: In 0..1: how often such a bound holds.
    """
    from scipy.optimize import brentq

    if lost == images:
        return 100.0

    def too_likely(loss: float) -> float:
        return _chance(lost, gained, images, loss, confidence) - (1 - confidence)

    if too_likely(0.0) <= 0:
        return 0.0
    return 100 * float(brentq(too_likely, 0.0, 1.0, xtol=1e-9, rtol=1e-9))


def images_needed(lost: int, gained: int, images: int, max_drop: float, confidence: float = 0.95) -> int | None:
    """Return how many images in all, no further one of them changed, would bound the loss by `max_drop` points.

    None where no number does: of a loss of 0 there is no proof.
    """
    if max_drop <= 0:
        return None
    bound = loss_bound(lost, gained, images, confidence)
    if bound <= max_drop:
        return images
    # Of so few changes the bound is nearly a number of images, whatever they are a share of.
    guess = math.ceil(images * bound / max_drop)
    few, enough = images, max(guess, images + 1)
    if loss_bound(lost, gained, likely := max(images, guess * 24 // 25), confidence) > max_drop:
        few = likely
    while loss_bound(lost, gained, enough, confidence) > max_drop:
        few, enough = enough, enough + max(1, enough // 25)
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if loss_bound(lost, gained, middle, confidence) <= max_drop else (middle, enough)
    return enough


def _chance(lost: int, gained: int, images: int, loss: float, confidence: float) -> float:
    """Return the highest chance, over all shares of gained images, of an outcome that is no worse."""
    most = (1 - loss) / 2
    shares = np.unique(np.concatenate([[0.0], np.geomspace(1e-6, 1, NUISANCES), np.linspace(0, 1, NUISANCES)])) * most
    chances = _chances(lost, gained, images, loss, shares, confidence)
    best = int(chances.argmax())
    beside = np.linspace(shares[max(best - 1, 0)], shares[min(best + 1, len(shares) - 1)], NUISANCES)
    return float(max(chances.max(), _chances(lost, gained, images, loss, beside, confidence).max()))


def _chances(lost: int, gained: int, images: int, loss: float, shares: np.ndarray, confidence: float) -> np.ndarray:
    """Return the chance of an outcome that is no worse, for each share of gained images, float64 of their shape."""
    from scipy.special import bdtrc, gammaln, xlog1py, xlogy

    row, count = _windows(images, shares + loss)
    rest, loses = images - count, shares[row] + loss
    coefficient = gammaln(images + 1) - gammaln(count + 1) - gammaln(rest + 1)
    chance = np.exp(coefficient + xlogy(count, loses) + xlog1py(rest, -loses))
    # Of the images that were not lost, each is gained by this chance.
    gains = np.minimum(shares[row] / np.maximum(1 - loses, 1e-300), 1.0)
    least = _least_gained(lost, gained, count, confidence)
    enough = np.where(least <= 0, 1.0, np.where(least > rest, 0.0, bdtrc(np.minimum(least - 1, rest), rest, gains)))
    found: np.ndarray = np.bincount(row, chance * enough, len(shares))
    return found


def _windows(images: int, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, one after the other, each share's index and the counts of lost images that it makes likely."""
    means = images * shares
    reach = SPREAD * np.sqrt(means + 1)
    low, high = (
        np.maximum(np.floor(means - reach), 0).astype(int),
        np.minimum(np.ceil(means + reach), images).astype(int),
    )
    row = np.repeat(np.arange(len(shares)), high - low + 1)
    counts = np.concatenate([np.arange(first, last + 1) for first, last in zip(low, high, strict=True)])
    return row, counts


def _least_gained(lost: int, gained: int, losses: np.ndarray, confidence: float) -> np.ndarray:
    """Return, for each number of lost images, how many must be gained so that it is no worse than what was seen.

    Worse is what has the higher `b - c + z sqrt(b + c + k)`, b being lost and c gained; k is as large as it takes for
    that to rise with b and to fall with c.
    """
    from scipy.stats import norm

    z = float(norm.ppf(confidence))
    k = max(1.0, z * z / 4)
    seen = lost - gained + z * math.sqrt(lost + gained + k)
    roots = (z + np.sqrt(np.maximum(z * z + 4 * (2 * losses + k - seen), 0.0))) / 2
    # What was seen is no worse than itself, whatever rounding says.
    least: np.ndarray = np.maximum(np.ceil(roots * roots - losses - k - 1e-9), 0.0)
    return least
