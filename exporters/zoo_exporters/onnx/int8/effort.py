"""How much a search may try."""

from __future__ import annotations

from dataclasses import dataclass

from zoo.errors import OptionInvalid

DEFAULT = "quick"


@dataclass(frozen=True, kw_only=True)
class Effort:
    """Bounds in counts, not in seconds: the same search tries the same things on any machine."""

    calibration_images: int
    descents: int
    """Starting points that are improved, group of layers by group."""
    groups: int
    """Groups that are tried in each descent, the most expensive first."""
    single_layers: int
    """Layers that are then tried one by one."""
    plans: int
    """Of the fastest, how many may be made accurate before one must have held."""
    every_treatment: bool
    """Whether the winner gets the best treatment, or the first that holds."""
    seconds: float
    """Of timing a candidate."""


EFFORTS = {
    "quick": Effort(
        calibration_images=64, descents=1, groups=8, single_layers=0, plans=2, every_treatment=False, seconds=0.3
    ),
    "balanced": Effort(
        calibration_images=128, descents=3, groups=16, single_layers=8, plans=4, every_treatment=True, seconds=0.6
    ),
    "thorough": Effort(
        calibration_images=256, descents=5, groups=40, single_layers=60, plans=8, every_treatment=True, seconds=1.0
    ),
}


def effort_of(options: dict[str, object]) -> Effort:
    """Return what the option `search` names.

    Raises:
        OptionInvalid: it is none of `EFFORTS`.
    """
    name = options.get("search", DEFAULT)
    if not isinstance(name, str) or name not in EFFORTS:
        raise OptionInvalid(f"search={name!r} is unknown to the onnx exporter; use one of {', '.join(EFFORTS)}")
    return EFFORTS[name]
