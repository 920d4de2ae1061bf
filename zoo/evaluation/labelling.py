"""Labels for the points of a plot, put where they cover neither a point nor each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

LETTER = 7.2
"""Width of a letter at the size of `TEXT`, in pixels of the drawing; rather too wide than too narrow."""
TEXT = 12.0
GAP = 7.0
"""Between a point and its label."""


class Box(NamedTuple):
    """A rectangle of the drawing; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        """Tell whether two rectangles have an area in common."""
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def inside(self, other: Box) -> bool:
        """Tell whether this one lies in the other."""
        across = self.left >= other.left and self.right <= other.right
        return across and self.top >= other.top and self.bottom <= other.bottom


class Label(NamedTuple):
    """What is to be written beside a point."""

    x: float
    y: float
    text: str
    needed: bool = False
    """Whether it is written even where it covers something, or further off; any other is then left out."""


def place(labels: Sequence[Label], taken: Sequence[Box], area: Box) -> list[tuple[Label, Box]]:
    """Choose a place for each label, the earlier ones first.

    Args:
        labels: The most important first.
        taken: What must stay free: the points.
        area: Where labels may stand.

    Returns:
        Those that found a place, and it.
    """
    placed: list[tuple[Label, Box]] = []
    for label in labels:
        occupied = [*taken, *(box for _, box in placed)]
        allowed = [box for box in _places(label) if box.inside(area)]
        free = [box for box in allowed if not any(box.meets(other) for other in occupied)]
        if free or (label.needed and allowed):
            best = free[0] if free else min(allowed, key=lambda box: sum(box.meets(other) for other in occupied))
            placed.append((label, best))
    return placed


def _places(label: Label) -> list[Box]:
    """Return the rectangles around a point, the best first: beside it, above, below, at its corners, further out."""
    width, half = LETTER * len(label.text) + 2, TEXT / 2
    found = []
    for gap in (GAP, 2.5 * GAP, 4 * GAP) if label.needed else (GAP,):
        right, left, middle = label.x + gap, label.x - gap - width, label.x - width / 2
        above, below, level = label.y - gap - TEXT, label.y + gap, label.y - half
        corners = [(right, level), (left, level), (middle, above), (middle, below)]
        corners += [(right, above), (right, below), (left, above), (left, below)]
        found += [Box(x, y, x + width, y + TEXT) for x, y in corners]
    return found
