"""What a person reads of metrics: titles and texts, for tables on a terminal and for the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


TITLES = {
    "images": "images",
    "top1": "top-1",
    "map": "mAP",
    "exact": "exact match",
    "loss": "loss",
    "ece": "calibration error",
    "unknown": "called unknown",
    "micro_f1": "micro F1",
    "macro_f1": "macro F1",
}
SHARES = ("top1", "map", "exact")
"""The first that is there is what a run is judged by."""
PERCENT = frozenset({*SHARES, "ece", "unknown"})
COLUMNS = {
    "images": "images",
    "ap": "AP",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "threshold": "threshold",
}


def headline(metrics: Mapping[str, Any]) -> str:
    """Return the key of the figure that a run is judged by."""
    return next(key for key in SHARES if key in metrics)


def summary(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Return title -> text of what one line of a table tells of a split."""
    return {title: figure(key, metrics[key]) for key, title in TITLES.items() if key in metrics}


def figure(key: str, value: float) -> str:
    """Write one figure as a person reads it."""
    if key == "images":
        return str(value)
    return f"{100 * value:.2f} %" if key in PERCENT else f"{value:.4f}"


def percent(share: float, digits: int = 2) -> str:
    """Write a share of 1 as a percentage."""
    return f"{100 * share:.{digits}f} %"


def signed(points: float) -> str:
    """Write a change in points; one that rounds to nothing has no sign."""
    return f"{points:+.2f}" if round(points, 2) else "0.00"


def megabytes(size: int | None) -> str:
    """Write bytes as megabytes; nothing where the size is unknown."""
    return "" if size is None else f"{size / 1e6:.2f} MB"


def class_table(per_class: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return the columns and rows of a table with one line a class, in the order given."""
    keys = [key for key in COLUMNS if any(key in found for found in per_class.values())]
    rows = [[name, *(_cell(key, found[key]) for key in keys)] for name, found in per_class.items()]
    return ["class", *(COLUMNS[key] for key in keys)], rows


def _cell(key: str, value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if key == "images" else f"{value:.3f}"
