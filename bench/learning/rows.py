"""The rows of the bench: which images, how many of them, and which network learns them."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """Images, their number, and a network."""

    name: str
    source: str
    """stamps, digits, shapes or textures."""
    images: int
    """For training: of each class of stamps, otherwise of all classes together; 0 is a share of all there are."""
    model: str
    """What zoo calls it."""
    network: str
    """What timm calls it."""
    image_size: int = 0
    """Pixels of the input; 0 is the network's own."""
    weights: str = ""
    """Which of the files of pretrained weights: lite0 or lite2; empty means random ones."""
    options: dict[str, Any] = field(default_factory=dict)
    """What the command line of `zoo train` must say so that it trains this network at this size."""


def _rows() -> list[Row]:
    scratch: dict[str, Any] = {
        "model": "test_resnet",
        "network": "test_resnet",
        "image_size": 64,
        "options": {"pretrained": False, "image_size": 64},
    }
    rows = []
    for size in ("lite0", "lite2"):
        network = f"tf_efficientnet_{size}"
        for images in (5, 10, 20, 0):
            rows.append(Row(f"stamps_{size}_{images or 'all'}", "stamps", images, network, network, weights=size))
    rows += [Row(f"digits_{n}", "digits", n, "tiny", "resnet10t", image_size=32) for n in (100, 500, 1200)]
    rows += [Row(f"shapes_{n}", "shapes", n, **scratch) for n in (100, 500, 2000)]
    rows += [Row(f"textures_{n}", "textures", n, **scratch) for n in (100, 500, 2000)]
    return rows


ROWS = {row.name: row for row in _rows()}
IN_MINUTES = ("*_100", "stamps_lite0_5")


def matching(patterns: tuple[str, ...]) -> list[Row]:
    """Return the rows that a name or a glob among the patterns fits, in their own order.

    Raises:
        SystemExit: nothing fits one of them.
    """
    for pattern in patterns:
        if not fnmatch.filter(ROWS, pattern):
            raise SystemExit(f"no row is named {pattern!r}; there are {', '.join(ROWS)}")
    return [row for name, row in ROWS.items() if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
