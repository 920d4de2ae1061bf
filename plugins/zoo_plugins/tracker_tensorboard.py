"""The tensorboard tracker: each epoch's numbers as curves, in `tensorboard/` of the run."""

from __future__ import annotations

import importlib.util
import json
from typing import TYPE_CHECKING

from zoo.errors import EnvironmentBroken
from zoo_plugins.tracker_numbers import numbers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch.utils.tensorboard import SummaryWriter

ZOO_API = 1
FOLDER = "tensorboard"
INSTALL = 'tracker tensorboard needs the package tensorboard; run `pip install "edgezoo[tensorboard]"`'


class TensorBoardTracker:
    """Draw a run's curves in TensorBoard: `tensorboard --logdir runs` shows all runs side by side."""

    def __init__(self) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            raise EnvironmentBroken(INSTALL)

    def start(self, run: Path, config: Mapping[str, object]) -> None:
        """Open a new event file; one folder with several of them is one run to TensorBoard."""
        from torch.utils.tensorboard import SummaryWriter

        first = not any((run / FOLDER).glob("events.*"))
        # A step that goes back makes TensorBoard forget all later ones.
        self._epoch = 0 if first else _epochs_so_far(run / "metrics.jsonl")
        self._writer: SummaryWriter = SummaryWriter(str(run / FOLDER))
        if first:
            text = json.dumps(dict(config), indent=2, default=str)
            self._writer.add_text("config", f"```json\n{text}\n```", 0)

    def epoch(self, metrics: Mapping[str, float | int]) -> None:
        """Add a point to each curve, and have it on the disk."""
        self._epoch = int(metrics["epoch"])
        self._scalars({key: value for key, value in numbers(metrics).items() if key != "epoch"})
        self._writer.flush()

    def artifact(self, folder: Path, report: Mapping[str, object]) -> None:
        """Add what the proof of an artifact measured."""
        self._scalars(numbers(report, f"{folder.name}/"))

    def end(self, metrics: Mapping[str, object]) -> None:
        """Add the final metrics, and close."""
        self._scalars(numbers(metrics, "final/"))
        self._writer.close()

    def _scalars(self, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            # TensorBoard groups curves by what stands before the "/".
            self._writer.add_scalar(_grouped(key), value, self._epoch)


def _epochs_so_far(metrics_file: Path) -> int:
    return len(metrics_file.read_text().splitlines()) if metrics_file.is_file() else 0


def _grouped(key: str) -> str:
    split, _, rest = key.partition("_")
    return f"{split}/{rest}" if split in ("train", "val") and rest else key
