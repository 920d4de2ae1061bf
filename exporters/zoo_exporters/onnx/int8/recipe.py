"""What a candidate is made of: which products compute in int8, how, and what goes along with them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zoo_exporters.onnx.int8.products import Product

FOLLOWERS: dict[str, frozenset[str]] = {
    "products": frozenset(),
    "linear": frozenset(
        {"Add", "AveragePool", "Concat", "Flatten", "GlobalAveragePool", "MaxPool", "Reshape", "Resize", "Split"}
        | {"Squeeze", "Transpose", "Unsqueeze"}
    ),
    "all": frozenset(
        {"Add", "AveragePool", "Concat", "Flatten", "GlobalAveragePool", "LeakyRelu", "MaxPool", "Mul", "Reshape"}
        | {"Resize", "Sigmoid", "Softmax", "Split", "Squeeze", "Transpose", "Unsqueeze"}
    ),
}
"""Operators that go along in int8 where all that they read is int8; the rest computes in float between."""
ALWAYS_FOLLOW = frozenset({"Clip", "Relu"})
"""They cost nothing: the range of the tensor before them does their work."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way to make an int8 file of a prepared graph; equal ones make equal files."""

    static: frozenset[str] = frozenset()
    """Products in int8 whose activations have ranges found on the calibration images."""
    dynamic: frozenset[str] = frozenset()
    """Matrix products in int8 whose activations' range is found as the file runs."""
    follow: str = "linear"
    """One of `FOLLOWERS`."""
    calibrator: str = "minmax"
    """One of `CALIBRATORS`."""
    float_results: bool = False
    """Whether results of products are not rounded: transformers have outliers that int8 cannot hold."""
    bias_corrected: bool = False
    equalized: bool = False
    eight_bits: bool = False
    """Whether weights use all 8 bits, so that sums may saturate on x86 before VNNI unless a session is told to be
    exact; else they are as large as no sum of neighbours saturates with. Only where activations are unsigned."""
    saturate: bool = False
    """Whether Hard-Sigmoid becomes a saturating rounding, so that Hard-Swish stays in int8."""

    @property
    def key(self) -> str:
        """Name it in a journal."""
        values = {name: sorted(v) if isinstance(v, frozenset) else v for name, v in asdict(self).items()}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    def describe(self, products: Sequence[Product]) -> str:
        """Say in a few words what it is, for a graph with these products."""
        words = []
        if self.static:
            goes_along = f"{self.follow} follow" if self.follow != "products" else "float between"
            words.append(f"static ({goes_along}, {self.calibrator})")
        if self.dynamic:
            words.append(f"dynamic ({_groups(products, self.dynamic)})")
        left = frozenset(product.name for product in products) - self.static - self.dynamic
        words.append(f"float: {_groups(products, left)}" if left else "no product in float")
        words += ["float results"] if self.float_results else []
        words += [word for word, given in self._treatments().items() if given]
        return ", ".join(words)

    def _treatments(self) -> dict[str, bool]:
        return {
            "equalized": self.equalized,
            "biases corrected": self.bias_corrected,
            "8-bit weights": self.eight_bits,
            "saturating hard-sigmoid": self.saturate,
        }


def _groups(products: Sequence[Product], names: frozenset[str]) -> str:
    """Name whole groups of one kind and size by these, others by how many of a group there are."""
    members: dict[str, list[bool]] = {}
    for product in products:
        members.setdefault(product.group, []).append(product.name in names)
    told = [
        group if all(inside) else f"{sum(inside)} of {len(inside)} {group}"
        for group, inside in members.items()
        if any(inside)
    ]
    kinds = {product.kind for product in products}
    for kind in sorted(kinds):
        own = [group for group in members if group.partition(" ")[0] == kind]
        if len(own) > 1 and all(group in told for group in own):
            told = [f"all {kind}", *(word for word in told if word not in own)]
    return ", ".join(told)
