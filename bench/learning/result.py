"""What one side made of one row with one seed: the order for it, its result, and the file that keeps results."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from bench.learning.rows import ROWS, Row

if TYPE_CHECKING:
    from pathlib import Path

Key = tuple[str, int, str, int]
"""Row, seed, side and image size."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A side to be measured in a process of its own."""

    row: str
    seed: int
    side: str
    image_size: int
    """Instead of the row's; 0 keeps that."""
    folder: str
    """With train/, val/ and test/, a folder a class in each."""
    scratch: str = ""
    weights: str = ""
    script: str = ""
    """timm's train.py."""
    epochs: int = 0
    """Of timm's script, whose schedule has to know them."""
    budget: float = 0.0
    """CPU seconds that zoo took."""

    @property
    def key(self) -> Key:
        return self.row, self.seed, self.side, self.image_size

    @property
    def of(self) -> Row:
        return ROWS[self.row]

    @property
    def size(self) -> int:
        """Pixels of the input; 0 is the network's own."""
        return self.image_size or self.of.image_size


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a side's process prints."""

    top1: float
    """Of the test images, in percent."""
    seconds: float
    """CPU seconds of training and of choosing the epoch; imports are left out."""
    epochs: int = 0
    """0 where the side does not say."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """An outcome, and what it is of."""

    row: str
    seed: int
    side: str
    image_size: int
    train: int
    test: int
    """Images."""
    top1: float
    seconds: float
    epochs: int
    budget: float

    @property
    def key(self) -> Key:
        return self.row, self.seed, self.side, self.image_size


class Results:
    """Results in a file of JSON lines; a killed bench goes on with those that are there."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._results: dict[Key, Result] = {}
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        # What a kill left of its last line has no end.
        whole, _, torn = text.rpartition("\n")
        for line in whole.splitlines():
            result = Result(**json.loads(line))
            self._results[result.key] = result
        if torn:
            file.write_text(f"{whole}\n" if whole else "", encoding="utf-8")

    def get(self, key: Key) -> Result | None:
        return self._results.get(key)

    def add(self, result: Result) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(result)) + "\n")
        self._results[result.key] = result
