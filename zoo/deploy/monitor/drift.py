"""A log of predictions beside the proof's images: what has shifted by more than chance, and by enough to matter."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import chi2, fisher_exact

from zoo.errors import OptionInvalid
from zoo.exporting.reference import CONFIDENCE
from zoo.runtime.statistics import NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from zoo.exporting.reference import Reference

PSI_LIMIT = 0.2
"""From here on the field calls a shift large."""
CHANCE = 1e-4
"""The share of quiet logs in which one comparison may cry wolf."""
SHARE_CHANGE = 2.0
"""By which factor the share of a class must change to matter."""
UNKNOWN_LIMIT = 0.05
"""By how much more of the images must be unknown to matter."""
LEAST_ENTRIES = 30
"""Fewer say nothing."""
HALF = 0.5
"""Added to each bin, so that an empty one has a logarithm."""


@dataclass(frozen=True, kw_only=True)
class Shift:
    """One comparison."""

    what: str
    psi: float
    """Population stability index: the sum over bins of (now - before) ln(now / before), in shares; 0 is the same."""
    limit: float
    """What it must exceed: `PSI_LIMIT`, or what chance reaches with so few images."""
    before: tuple[int, ...]
    """Images of the reference in each bin."""
    now: tuple[int, ...]
    edges: tuple[float, ...] = ()
    """Between the bins; none where the bins are classes."""
    finding: str = ""
    """What is wrong, in words; empty if nothing is."""


@dataclass(frozen=True, kw_only=True)
class Drift:
    """What came out."""

    entries: int
    """That were compared."""
    left_out: int
    """Entries of other models."""
    shifts: tuple[Shift, ...]
    classes: tuple[str, ...]
    unknown: float | None
    """The share of the images that is unknown; None where the file does not tell."""
    reference_unknown: float | None
    reference_images: int
    findings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"drift": bool(self.findings), **asdict(self)}


def drift(
    reference: Reference, entries: Sequence[Mapping[str, Any]], *, model: str, unknown: float | None = None
) -> Drift:
    """Compare.

    Args:
        reference: Of the artifact.
        entries: Of the log, as `zoo.runtime.record.read_record` gives them.
        model: The SHA-256 of the model file; what others said is left out.
        unknown: The share of the proof's images that is unknown, in 0..1; None where the file does not tell.

    Raises:
        OptionInvalid: there are too few entries of this model.
    """
    own = [entry for entry in entries if entry.get("model") == model]
    if len(own) < LEAST_ENTRIES:
        others = f" and {len(entries) - len(own)} of other models" if len(entries) > len(own) else ""
        raise OptionInvalid(
            f"the log has {len(own)} predictions of this model{others}; {LEAST_ENTRIES} are needed to compare"
        )
    values = {CONFIDENCE: [entry["confidence"] for entry in own]}
    values |= {name: [entry["statistics"][name] for entry in own] for name in NAMES}
    shifts = [_numbers(name, reference, np.array(values[name], float)) for name in values]
    shifts.append(_classes(reference, own))
    told = [bool(entry["unknown"]) for entry in own if entry.get("unknown") is not None]
    share = float(np.mean(told)) if told else None
    findings = [shift.finding for shift in shifts if shift.finding]
    if share is not None and unknown is not None:
        findings += _more_unknown(reference.images, unknown, len(told), share)
    return Drift(
        entries=len(own),
        left_out=len(entries) - len(own),
        shifts=tuple(shifts),
        classes=tuple(reference.classes),
        unknown=share,
        reference_unknown=unknown,
        reference_images=reference.images,
        findings=tuple(findings),
    )


def stability(before: np.ndarray, now: np.ndarray) -> tuple[float, float]:
    """Return the population stability index of two counts, int [bins], and what it must exceed to be a finding.

    Of the same population it is about chi-squared, with one degree of freedom less than bins, times the sum of the
    reciprocals of both sizes (Yurdakul and Naranjo, 2020).
    """
    shares = [(counts + HALF) / (counts.sum() + HALF * len(counts)) for counts in (before, now)]
    index = float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())
    chance = chi2.ppf(1 - CHANCE, max(len(before) - 1, 1)) * (1 / max(before.sum(), 1) + 1 / max(now.sum(), 1))
    return index, max(PSI_LIMIT, float(chance))


def _numbers(name: str, reference: Reference, values: np.ndarray) -> Shift:
    bins = reference.numbers[name]
    before, now = np.array(bins.counts), bins.count(values)
    index, limit = stability(before, now)
    finding = f"{name} has {_way(before, now)} (PSI {index:.2f}, limit {limit:.2f})" if index > limit else ""
    return Shift(
        what=name,
        psi=round(index, 4),
        limit=round(limit, 4),
        before=bins.counts,
        now=tuple(map(int, now)),
        edges=bins.edges,
        finding=finding,
    )


def _way(before: np.ndarray, now: np.ndarray) -> str:
    """Say where to the images went, by the mean bin."""
    places = np.arange(len(before))
    moved = (now * places).sum() / now.sum() - (before * places).sum() / before.sum()
    if abs(moved) < 0.1 * len(before):
        return "changed its spread"
    return "risen" if moved > 0 else "fallen"


def _classes(reference: Reference, entries: Sequence[Mapping[str, Any]]) -> Shift:
    counts = dict.fromkeys(reference.classes, 0)
    for entry in entries:
        said = entry["prediction"]
        for name in said if isinstance(said, list) else [said]:
            counts[name] = counts.get(name, 0) + 1
    before = np.array(list(reference.classes.values()))
    now = np.array([counts[name] for name in reference.classes])
    index, limit = stability(before, now)
    changed = _changed_classes(reference, counts, len(entries))
    finding = f"predictions: {', '.join(changed)}" if changed else ""
    if not finding and index > limit:
        finding = f"the predicted classes have shifted (PSI {index:.2f}, limit {limit:.2f})"
    return Shift(
        what="predictions",
        psi=round(index, 4),
        limit=round(limit, 4),
        before=tuple(map(int, before)),
        now=tuple(map(int, now)),
        finding=finding,
    )


def _changed_classes(reference: Reference, counts: Mapping[str, int], entries: int) -> list[str]:
    """Name the classes that are said much more or less often than chance allows, as often as they are looked at."""
    found = []
    for name, before in reference.classes.items():
        now, was = counts[name] / entries, before / reference.images
        larger, smaller = max(now, was), min(now, was)
        if larger <= SHARE_CHANGE * smaller:
            continue
        table = [[counts[name], entries - counts[name]], [before, reference.images - before]]
        if fisher_exact(table).pvalue < CHANCE / len(reference.classes):
            found.append(f"{name} {100 * was:.1f} % -> {100 * now:.1f} %" if now else f"{name} is missing")
    return found


def _more_unknown(images: int, before: float, entries: int, now: float) -> list[str]:
    table = [[round(now * entries), round((1 - now) * entries)], [round(before * images), round((1 - before) * images)]]
    if now - before <= UNKNOWN_LIMIT or fisher_exact(table).pvalue >= CHANCE:
        return []
    return [f"{100 * now:.1f} % of the images are unknown, {100 * before:.1f} % of the proof's images were"]
