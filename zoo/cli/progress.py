"""Training as a person follows it: bars on a terminal, a line an epoch elsewhere; and Ctrl-C that saves."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from zoo.cli.output import stderr
from zoo.errors import Interrupted, Terminated
from zoo.evaluate.figures import TITLES, figure
from zoo.train.watch import Watch

if TYPE_CHECKING:
    from types import FrameType

    from zoo.train.loop import EpochResult
    from zoo.train.state import TrainState

REFRESH_SECONDS = 0.2


class TrainProgress(Watch):
    """Shows a run as it goes, on stderr, and turns SIGINT and SIGTERM into a stop between two steps.

    A second signal is not held back: it interrupts at once, and the last saved state still stands.
    """

    def __init__(self) -> None:
        self._console = stderr()
        self._signal = 0
        self._handlers: dict[signal.Signals, Any] = {}
        self._next_refresh = 0.0
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._screening = self._bars.add_task("looking at images", visible=False, detail="")
        self._run = self._bars.add_task("training", visible=False, detail="")

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def note(self, text: str) -> None:
        """Print one line."""
        self._console.print(text)

    def screening(self, done: int, total: int) -> None:
        """Move the bar of the first look at the images."""
        if done == total or time.monotonic() >= self._next_refresh:
            self._next_refresh = time.monotonic() + REFRESH_SECONDS
            self._bars.update(self._screening, completed=done, total=total, visible=done < total)

    def begin(self, state: TrainState, epochs: int, steps_per_epoch: int, batch_size: int) -> None:
        """Show the training bar; from now on a signal waits for the end of the step."""
        self._steps, self._epochs, self._batch_size = steps_per_epoch, epochs, batch_size
        self._began, self._first_step = time.monotonic(), state.global_step(steps_per_epoch)
        self._bars.update(self._run, total=epochs * steps_per_epoch, completed=self._first_step, visible=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            # A run that ran out of memory begins anew.
            self._handlers.setdefault(number, signal.signal(number, self._take))

    def step(self, state: TrainState) -> None:
        """Move the training bar, or stop the run if a signal came."""
        if self._signal:
            raise Terminated if self._signal == signal.SIGTERM else Interrupted
        if time.monotonic() < self._next_refresh or self._bars.disable:
            return
        self._next_refresh = time.monotonic() + REFRESH_SECONDS
        done = state.global_step(self._steps)
        rate = (done - self._first_step) * self._batch_size / (time.monotonic() - self._began)
        loss, _ = state.means()
        self._bars.update(
            self._run,
            completed=done,
            description=f"epoch {state.epoch + 1}/{self._epochs}",
            detail=f"loss {loss:.3f}  {rate:.0f} images/s",
        )

    def epoch(self, result: EpochResult) -> None:
        """Print the line of an epoch."""
        self.note(
            f"epoch {result.epoch:>3}/{self._epochs}"
            f"  train {_figures(result.train)}  val {_figures(result.val)}{' *' if result.best else '  '}"
            f"  {result.images_per_second:.0f} images/s"
        )

    def _take(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
        signal.signal(signal.Signals(number), self._handlers[signal.Signals(number)])
        # Not through rich: a signal may come in the middle of its own work, even of its import.
        os.write(sys.stderr.fileno(), b"stopping after this step; once more to stop at once\n")


def _figures(found: dict[str, float]) -> str:
    return "  ".join(f"{TITLES.get(key, key)} {figure(key, value)}" for key, value in found.items())
