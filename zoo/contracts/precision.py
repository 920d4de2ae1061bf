"""What is known of a precision: one row each, for exporters, proofs, bundles and suites alike."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Precision:
    """How the numbers of a file are kept, and what that may change.

    Runtime and browser know `golden_limit` by tables of their own, since a device has nothing else of zoo; a test holds
    them to this one. A precision that they do not name has that of int8.
    """

    name: str
    bits: int
    """Of a weight."""
    probability_limit: float | None = None
    """Largest change of any probability that the proof allows; None where accuracy alone is judged, since probabilities
    move by design."""
    batch_limit: float = 5e-2
    """The same between an image alone and in a batch: a range found as the file runs is that of the whole batch."""
    golden_limit: float = 5e-2
    """The same between two machines, which round int8 differently."""
    usual_speedup: float | None = None
    """Over fp32, that the proof asks for unless the user says otherwise; None where speed is not judged."""
    coarse: bool = False
    """Whether activations are rounded too, so far that another processor's rounding can show."""
    needs: str = ""
    """The first onnxruntime with kernels for it, as a requirement; empty if any will do."""


PRECISIONS = {
    row.name: row
    for row in (
        Precision(name="fp32", bits=32, probability_limit=5e-3, batch_limit=1e-4, golden_limit=1e-4),
        Precision(name="fp16", bits=16, probability_limit=5e-2, batch_limit=1e-2, golden_limit=1e-2),
        # These two exist to be faster.
        Precision(name="int8", bits=8, coarse=True, usual_speedup=1.0),
        Precision(name="dynamic", bits=8, coarse=True, usual_speedup=1.0),
        # Only weights have fewer bits, the arithmetic is float; the file is smaller and must cost no time, but for the
        # 5 % that are a measurement's noise.
        Precision(name="int8-weights", bits=8, batch_limit=1e-3, golden_limit=1e-3, usual_speedup=0.95),
        Precision(name="int4-weights", bits=4, batch_limit=1e-3, golden_limit=1e-3, needs="onnxruntime>=1.20"),
    )
}
"""Name -> row; the order is that in which they are told."""


def row_of(name: str) -> Precision:
    """Return the row of a precision; what has none, such as "fp32, pruned", moves probabilities as int8 does."""
    return PRECISIONS.get(name, PRECISIONS["int8"])
