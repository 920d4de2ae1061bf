"""Which pictures are the same, or nearly: perceptual hashes name candidates, small patterns decide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import imagehash
import numpy as np
from PIL import Image, ImageOps

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

SIDE = 48
"""Of a pattern."""
SMALLEST_SIDE = 32
"""Pixels. In smaller images different pictures have the same hash and nearly the same pattern."""
LEAST_DETAIL = 3.0
"""Grey levels, of 255. In a clear sky there is only noise, and all skies look alike."""
MIDDLE = 0.92
"""The share of each side that the third hash covers, so that a copy with cut edges is found."""

MOST_BITS = 12
"""Of 64: candidates differ in no more. Re-encoded, resized and brightened copies of photos stay below 11."""
MOST_LOCAL_DIFFERENCE = 0.2
"""Mean squared difference, in variances, of the worst of 16 fields: more, and something was added, or has moved."""
LEAST_OF_REPEATING = 0.99
"""Correlation. Stripes and tiles look like any others of their kind; only a new encoding leaves this much."""
REPEATING = 0.95
"""Correlation of a picture's middle with another place of the same picture."""
LEAST_ALIGNED = 0.97
MOST_PLACES = 6
"""Where a part fits at more places of the other picture nearly as well, it has too few features to tell."""
MOST_ALIGNED = 10_000
"""Pairs that are also tried as cropped copies, at some milliseconds each."""
COLOUR_LEVELS, COLOUR_SHARE = 8.0, 0.3
"""Two pictures' colours may differ by so many levels, and by this share of how colourful they are."""
GREY_LEVELS = 3.0

MOST_COMPARED_WITH_ALL = 20_000
"""Images up to which every hash is compared with every other one, in seconds; beyond it, bands of bits sort them."""
BAND_BITS, BANDS = 8, 8
BLOCK = 1 << 22
"""Pairs of hashes that are compared at a time."""
BATCH = 1024
"""Pairs of patterns, likewise."""


@dataclass(frozen=True)
class Trace:
    """What a picture is recognised by when it was re-encoded, resized, brightened, mirrored or cropped a little."""

    hashes: np.ndarray
    """uint64 [3]: imagehash's pHash of the picture, of its mirror image, of its middle."""
    pattern: np.ndarray
    """int8 [SIDE, SIDE]: its grey levels without what is coarse, in 1/32 of their own spread."""
    colours: np.ndarray
    """int16 [4, 4, 3]: how far R, G and B lie from grey in 16 fields."""
    detail: float
    """The spread of the pattern, in grey levels."""
    blank: bool
    """Nothing but one colour."""
    repeats: bool = False
    """The same again and again, as stripes and tiles are."""


@dataclass(frozen=True)
class Pair:
    """Two pictures that are nearly the same, by their positions; `how` is "", "mirrored" or "cropped"."""

    first: int
    second: int
    likeness: float
    """Correlation of the patterns, at most 1."""
    how: str = ""


@dataclass(frozen=True)
class Likeness:
    """What a search has found, and where it did not look."""

    pairs: list[Pair]
    untried: int = 0
    """Pairs with similar hashes that were not tried as cropped copies, since there were too many."""
    banded: bool = False
    """Not all hashes were compared with all others."""


def trace_of(pixels: np.ndarray) -> Trace:
    """Reduce RGB uint8 [H, W, 3] of any size.

    The hash is pHash (Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions"): the signs of
    the lowest frequencies of a 32 x 32 picture.
    """
    small = Image.fromarray(pixels).resize((2 * SIDE, 2 * SIDE), Image.Resampling.BILINEAR)
    grey = small.convert("L")
    edge = round(2 * SIDE * (1 - MIDDLE) / 2)
    middle = grey.crop((edge, edge, 2 * SIDE - edge, 2 * SIDE - edge))
    levels = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX)).astype(np.float32)
    fine = levels - cv2.GaussianBlur(levels, (0, 0), SIDE / 10)
    detail = float(fine.std())
    pattern = np.rint(fine * (32 / max(detail, 1e-6))).clip(-127, 127).astype(np.int8)
    fields = np.asarray(small.resize((4, 4), Image.Resampling.BOX)).astype(np.int16)
    return Trace(
        hashes=np.array([_bits(view) for view in (grey, ImageOps.mirror(grey), middle)], np.uint64),
        pattern=pattern,
        colours=fields - fields.mean(2, keepdims=True).astype(np.int16),
        detail=detail,
        blank=float(np.asarray(small).std((0, 1)).max()) < 1,
        repeats=_repeats(pattern),
    )


def _repeats(pattern: np.ndarray) -> bool:
    soft, edge = _softened(pattern), SIDE // 4
    response = cv2.matchTemplate(soft, soft[edge:-edge, edge:-edge], cv2.TM_CCOEFF_NORMED)
    y, x = np.ogrid[-edge : edge + 1, -edge : edge + 1]
    return float(response[np.hypot(y, x) > SIDE / 12].max()) >= REPEATING


def _softened(pattern: np.ndarray) -> np.ndarray:
    # Places in two pictures meet to within half a field of the pattern, which must not matter.
    return cv2.GaussianBlur(pattern.astype(np.float32), (0, 0), 0.7)


def comparable(trace: Trace, height: int, width: int) -> bool:
    """Tell whether a picture carries enough to be told from others by its trace."""
    return min(height, width) >= SMALLEST_SIDE and trace.detail >= LEAST_DETAIL


def equal(keys: Sequence[Hashable]) -> list[list[int]]:
    """Return the positions that share a key, for each key that stands more than once."""
    groups: dict[Hashable, list[int]] = {}
    for position, key in enumerate(keys):
        groups.setdefault(key, []).append(position)
    return [group for group in groups.values() if len(group) > 1]


def connected(count: int, pairs: Sequence[Pair]) -> list[list[int]]:
    """Return the groups that pairs among `count` positions join, each sorted, without the single ones."""
    forest = _Forest(count)
    for pair in pairs:
        forest.join(pair.first, pair.second)
    return equal(forest.roots(np.arange(count)).tolist())


def nearly_equal(
    traces: Sequence[Trace],
    classes: Sequence[Hashable],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Likeness:
    """Find pairs of pictures that show the same: as many as it takes to connect each group of them.

    Up to MOST_COMPARED_WITH_ALL traces all pairs of hashes are compared. Beyond it, two that differ in up to 7 bits are
    found for certain (they agree in one of 8 bands), and most of those that differ in up to MOST_BITS.

    Args:
        traces: Of pictures that are `comparable`.
        classes: Of each; mirrored pictures are told only of one class, since "left" mirrored may well be "right".
        progress: Called with the passes that are done, and of how many.
    """
    if not traces:
        return Likeness([])
    hashes = np.stack([trace.hashes for trace in traces])
    numbers = {kind: number for number, kind in enumerate(dict.fromkeys(classes))}
    kinds = np.array([numbers[kind] for kind in classes])
    judge = _Judge(traces)
    found: list[Pair] = []
    for view, how in enumerate(("", "mirrored", "cropped")):
        progress(view, 3)
        for pairs in close_hashes(hashes[:, view], hashes[:, 0]):
            # Only a picture's middle is like another whole in one direction alone.
            once = pairs[:, 0] != pairs[:, 1] if how == "cropped" else pairs[:, 0] < pairs[:, 1]
            if how == "mirrored":
                once &= kinds[pairs[:, 0]] == kinds[pairs[:, 1]]
            found += judge.confirm(pairs[once], how)
    progress(3, 3)
    return Likeness(found, judge.untried, banded=len(traces) > MOST_COMPARED_WITH_ALL)


def close_hashes(queries: np.ndarray, hashes: np.ndarray) -> Iterator[np.ndarray]:
    """Yield int64 [P, 2]: positions in `queries` and `hashes` (uint64 [N]) that differ in up to MOST_BITS bits."""
    if len(hashes) <= MOST_COMPARED_WITH_ALL:
        everything = np.arange(len(hashes))
        yield from _close(queries, hashes, everything, everything)
        return
    mask = np.uint64((1 << BAND_BITS) - 1)
    for band in range(BANDS):
        shift = np.uint64(BAND_BITS * band)
        mine, theirs = (queries >> shift) & mask, (hashes >> shift) & mask
        for value in range(1 << BAND_BITS):
            rows, columns = np.flatnonzero(mine == value), np.flatnonzero(theirs == value)
            for pairs in _close(queries, hashes, rows, columns):
                # What an earlier band has in common was yielded there.
                apart = queries[pairs[:, 0]] ^ hashes[pairs[:, 1]]
                seen = np.zeros(len(pairs), bool)
                for earlier in range(band):
                    seen |= ((apart >> np.uint64(BAND_BITS * earlier)) & mask) == 0
                yield pairs[~seen]


def _close(queries: np.ndarray, hashes: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> Iterator[np.ndarray]:
    if not len(rows) or not len(columns):
        return
    others = hashes[columns]
    step = max(1, BLOCK // len(columns))
    for begin in range(0, len(rows), step):
        block = rows[begin : begin + step]
        near = np.argwhere(np.bitwise_count(queries[block][:, None] ^ others) <= MOST_BITS)
        if len(near):
            yield np.stack([block[near[:, 0]], columns[near[:, 1]]], axis=1)


def _bits(view: Image.Image) -> int:
    return int.from_bytes(np.packbits(imagehash.phash(view).hash).tobytes())


class _Forest:
    """Positions that were joined, directly or through others, have one root: the smallest of them."""

    def __init__(self, count: int) -> None:
        self._parent = np.arange(count)

    def roots(self, positions: np.ndarray) -> np.ndarray:
        """Return int64, of the shape of `positions`."""
        found: np.ndarray = self._parent[positions]
        while (self._parent[found] != found).any():
            found = self._parent[found]
        self._parent[positions] = found
        return found

    def join(self, first: int, second: int) -> bool:
        """Join two; tell whether they were apart."""
        low, high = sorted(self.roots(np.array([first, second])).tolist())
        self._parent[high] = low
        return bool(low != high)


class _Judge:
    """The second opinion: patterns and colours, place by place, of pictures that are not known to be alike yet.

    A thousand frames of one scene have half a million pairs, and 999 tell all.
    """

    def __init__(self, traces: Sequence[Trace]) -> None:
        self._patterns = np.stack([trace.pattern for trace in traces])
        self._colours = np.stack([trace.colours for trace in traces])
        self._repeats = np.array([trace.repeats for trace in traces])
        self._known = _Forest(len(traces))
        self._may_align = MOST_ALIGNED
        self.untried = 0

    def confirm(self, pairs: np.ndarray, how: str) -> Iterator[Pair]:
        """Yield those of int64 [P, 2] that show the same picture; `how` names the view whose hashes were close."""
        for begin in range(0, len(pairs), BATCH):
            part = pairs[begin : begin + BATCH]
            part = part[self._known.roots(part[:, 0]) != self._known.roots(part[:, 1])]
            part = part[self._same_colours(part, how)]
            likeness, worst = self._compare(part, how)
            repeats = self._repeats[part].any(1)
            same = (worst <= MOST_LOCAL_DIFFERENCE) & (~repeats | (likeness >= LEAST_OF_REPEATING))
            for (first, second), value in zip(part[same].tolist(), likeness[same].tolist(), strict=True):
                if self._known.join(first, second):
                    yield Pair(first, second, value, "mirrored" if how == "mirrored" else "")
            if how != "mirrored":
                yield from self._cropped(part[~same & ~repeats])

    def _compare(self, pairs: np.ndarray, how: str) -> tuple[np.ndarray, np.ndarray]:
        """Return float32 [P] twice: the correlation, and the difference of the worst field in variances."""
        first, second = (self._patterns[pairs[:, side]].astype(np.float32) for side in (0, 1))
        if how == "mirrored":
            first = first[:, :, ::-1]
        first, second = (
            (a - a.mean((1, 2), keepdims=True)) / np.maximum(a.std((1, 2), keepdims=True), 1e-6)
            for a in (first, second)
        )
        fields = ((first - second) ** 2).reshape(-1, 4, SIDE // 4, 4, SIDE // 4).mean((2, 4))
        return (first * second).mean((1, 2)), fields.max((1, 2), initial=0)

    def _same_colours(self, pairs: np.ndarray, how: str) -> np.ndarray:
        """Return bool [P]; a grey copy of a coloured picture counts as the same."""
        first, second = (self._colours[pairs[:, side]].astype(np.float32) for side in (0, 1))
        if how == "mirrored":
            first = first[:, :, ::-1]
        strength = [np.sqrt((a**2).mean((1, 2, 3))) for a in (first, second)]
        apart = np.sqrt(((first - second) ** 2).mean((1, 2, 3)))
        limit = COLOUR_LEVELS + COLOUR_SHARE * np.maximum(*strength)
        return np.asarray((apart <= limit) | (np.minimum(*strength) <= GREY_LEVELS))

    def _cropped(self, pairs: np.ndarray) -> Iterator[Pair]:
        self.untried += max(0, len(pairs) - self._may_align)
        for first, second in pairs[: self._may_align].tolist():
            self._may_align -= 1
            patterns = [_softened(self._patterns[position]) for position in (first, second)]
            likeness = max(_inside(*patterns), _inside(*reversed(patterns)))
            if likeness >= LEAST_ALIGNED and self._known.join(first, second):
                yield Pair(first, second, likeness, "cropped")


def _inside(part: np.ndarray, whole: np.ndarray) -> float:
    """Return the best correlation of the middle of `part`, made a little smaller, with any place in `whole`."""
    best = -1.0
    for side in range(SIDE, round(0.84 * SIDE) - 1, -1):
        margin = round(0.06 * side)
        scaled = cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA)
        middle = scaled[margin : side - margin, margin : side - margin]
        response = cv2.matchTemplate(whole, middle, cv2.TM_CCOEFF_NORMED)
        highest = float(response.max())
        if (response >= 0.9 * highest).sum() <= MOST_PLACES:
            best = max(best, highest)
    return best
