"""What a search found, as values: a row for each trial, and the best of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.tune.objective import Objective


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """One trial, as tables and JSON tell it."""

    number: int
    state: str
    """complete, pruned or failed."""
    params: dict[str, Any]
    values: dict[str, float]
    """Objective -> figure; empty unless complete."""
    seconds: float
    error: str
    run: str


@dataclass(frozen=True, kw_only=True)
class TuneResult:
    """A finished search."""

    folder: Path
    objectives: tuple[Objective, ...]
    trials: tuple[TrialRow, ...]
    best: tuple[int, ...]
    """Trial numbers that no other beats in all objectives, the best by the first objective first."""
    importance: dict[str, dict[str, float]]
    """Objective -> option -> share of what the figure varied; empty with too few trials to tell."""
    recipe: Path

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "study": str(self.folder),
            "objectives": {o.name: o.direction for o in self.objectives},
            "trials": [asdict(row) for row in self.trials],
            "best": list(self.best),
            "importance": self.importance,
            "recipe": str(self.recipe),
        }
