"""What a row tells while it is being answered, written down at once: a crash loses nothing that was found before it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

Figure = float | int | bool | str
RUNNING, DONE, NOT_RUN, FAILED = "running", "done", "not run", "failed"


class NotRun(Exception):
    """The question cannot be asked here; the text says why."""


@dataclass
class Report:
    """Figures of one row, kept in a file."""

    file: Path
    folder: Path
    """For what is drawn or trained; the same for all rows of one call, empty at first."""
    rehearsal: bool = False
    """Whether a row for a GPU is only gone through, on the CPU and small, to see that its code runs."""
    figures: dict[str, Figure] = field(default_factory=dict)

    @property
    def device(self) -> str:
        """The device that rows for a GPU use."""
        return "cpu" if self.rehearsal else "cuda"

    def figure(self, name: str, value: Figure) -> None:
        """Keep one figure: ratios and counts as numbers, others with their unit in the name or the text."""
        self.figures[name] = round(value, 4) if isinstance(value, float) else value
        self.write(RUNNING)

    def write(self, state: str, reason: str = "") -> None:
        """Write everything so far; a reader finds it whole, whenever it looks."""
        text = json.dumps({"state": state, "reason": reason, "figures": self.figures})
        part = self.file.with_suffix(".part")
        part.write_text(text, encoding="utf-8")
        part.replace(self.file)
