"""Who wants to hear of a run while it trains; every method may be left as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.training.learn.loop import EpochResult
    from zoo.training.learn.state import TrainState


class Watch:
    """Hears everything, does nothing."""

    def note(self, text: str) -> None:
        """Take one line for the user."""

    def screening(self, done: int, total: int) -> None:
        """Take how many images of a split were looked at."""

    def begin(self, state: TrainState, epochs: int, steps_per_epoch: int, batch_size: int) -> None:
        """Take note that the first step is about to run."""

    def step(self, state: TrainState) -> None:
        """Take one complete step; raising Interrupted or Terminated here stops the run with its state saved."""

    def epoch(self, result: EpochResult) -> None:
        """Take one complete epoch, already saved."""
