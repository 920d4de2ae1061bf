"""Training as a person follows it: bars on a terminal, a line an epoch elsewhere; and Ctrl-C that saves."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from zoo.contracts.progress import console, noting
from zoo.errors import Interrupted, Terminated
from zoo.evaluation.figures import TITLES, figure, headline
from zoo.training.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from rich.console import Console
    from rich.progress import Task
    from rich.text import Text

    from zoo.contracts.progress import Progress as Told
    from zoo.training.learn.loop import EpochResult
    from zoo.training.learn.state import TrainState

REFRESH_SECONDS = 0.2
WIDEST_BAR = 40
STATM = "/proc/self/statm"


class _TimeLeft(TimeRemainingColumn):
    def render(self, task: Task) -> Text:
        return super().render(task).append(" left")


class Stopping(Watch):
    """Turns SIGINT and SIGTERM into a stop between two steps, with the state saved; tells nothing.

    A second signal is not held back: it interrupts at once, and the last saved state still stands.
    """

    says_so = False
    """Whether a signal is answered by a word on stderr."""

    def __init__(self) -> None:
        self._signal = 0
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def begin(self, state: TrainState, epochs: int, steps_per_epoch: int, batch_size: int) -> None:
        """Let a signal wait for the end of the step from now on."""
        # Python lets no other thread than the first take signals.
        first = threading.current_thread() is threading.main_thread()
        for number in (signal.SIGINT, signal.SIGTERM) if first else ():
            # A run that ran out of memory begins anew.
            self._handlers.setdefault(number, signal.signal(number, self._take))

    def step(self, state: TrainState) -> None:
        """Stop the run if a signal came."""
        if self._signal:
            raise Terminated if self._signal == signal.SIGTERM else Interrupted

    def _take(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
        signal.signal(signal.Signals(number), self._handlers[signal.Signals(number)])
        if self.says_so:
            # Not through rich: a signal may come in the middle of its own work, even of its import.
            with contextlib.suppress(OSError, ValueError):  # in a notebook it may be no file
                os.write(sys.stderr.fileno(), b"stopping after this step; once more to stop at once\n")


class Lines(Stopping):
    """Tells each note and each epoch as a line of text."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()
        self._tell = tell

    def note(self, text: str) -> None:
        """Tell one line."""
        self._tell(text)

    def begin(self, state: TrainState, epochs: int, steps_per_epoch: int, batch_size: int) -> None:
        """Take note of how many epochs there will be."""
        super().begin(state, epochs, steps_per_epoch, batch_size)
        self._epochs = epochs

    def epoch(self, result: EpochResult) -> None:
        """Tell the line of an epoch."""
        self._tell(
            f"epoch {result.epoch:>3}/{self._epochs}"
            f"  train {_figures(result.train)}  val {_figures(result.val)}{' *' if result.best else '  '}"
            f"  {result.images_per_second:.0f} images/s"
        )


class TrainProgress(Lines):
    """Shows a run as it goes, on stderr."""

    def __init__(self, *, quiet: bool = False) -> None:
        """Take whether another process of the run shows it already."""
        self._console = console()
        self._console.quiet = quiet
        super().__init__(self._console.print)
        self.says_so = not quiet
        self._next_refresh = 0.0
        self._bars = make_bars(self._console)
        self._screening, self._epoch_bar, self._step_bar = (
            self._bars.add_task(text, visible=False, count="", detail="")
            for text in ("looking at images", "epoch", "step")
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()
        super().__exit__()

    def screening(self, done: int, total: int) -> None:
        """Move the bar of the first look at the images."""
        if done == total or time.monotonic() >= self._next_refresh:
            self._next_refresh = time.monotonic() + REFRESH_SECONDS
            count = f"{done}/{total}"
            self._bars.update(self._screening, completed=done, total=total, visible=done < total, count=count)

    def begin(self, state: TrainState, epochs: int, steps_per_epoch: int, batch_size: int) -> None:
        """Show the training bars; from now on a signal waits for the end of the step."""
        super().begin(state, epochs, steps_per_epoch, batch_size)
        self._steps, self._batch_size = steps_per_epoch, batch_size
        self._began, self._first_step = time.monotonic(), state.global_step(steps_per_epoch)
        self._shown_epoch = state.epoch
        self._bars.update(self._epoch_bar, total=epochs * steps_per_epoch)
        self._bars.update(self._step_bar, total=steps_per_epoch)
        self._show(state)

    def step(self, state: TrainState) -> None:
        """Move the training bars, or stop the run if a signal came."""
        super().step(state)
        if time.monotonic() >= self._next_refresh:
            self._next_refresh = time.monotonic() + REFRESH_SECONDS
            self._show(state)

    def _show(self, state: TrainState) -> None:
        if self._bars.disable:
            return
        if state.epoch > self._shown_epoch:
            # Or it would stay at the end of its time.
            self._bars.reset(self._step_bar)
        self._shown_epoch = state.epoch
        done = state.global_step(self._steps)
        seconds = max(time.monotonic() - self._began, 1e-3)
        rate = f"{(done - self._first_step) * self._batch_size / seconds:.0f} images/s"
        # Behind the last step of an epoch only validation is heard of, behind the last epoch only the final measure.
        doing = "measuring" if state.epoch >= self._epochs else "validating" if state.step >= self._steps else rate
        loss = f"loss {state.means()[0]:.4f}" if state.step else ""
        self._bars.update(
            self._epoch_bar,
            completed=done,
            visible=True,
            count=f"{min(state.epoch + 1, self._epochs)}/{self._epochs}",
            detail=_validated(state.history),
        )
        self._bars.update(
            self._step_bar,
            completed=state.step,
            visible=True,
            count=f"{state.step}/{self._steps}",
            detail="  ".join(filter(None, (loss, doing, _memory(state)))),
        )


def _figures(found: dict[str, float]) -> str:
    return "  ".join(f"{TITLES.get(key, key)} {figure(key, value)}" for key, value in found.items())


def watching(progress: Told, *, quiet: bool = False) -> Stopping:
    """Return who hears of a run, as the caller wishes.

    Args:
        progress: As for every function of zoo.
        quiet: Whether another process of the run tells of it already.
    """
    if progress is True:
        return TrainProgress(quiet=quiet)
    return Stopping() if quiet or progress is False else Lines(noting(progress))


def make_bars(console: Console) -> Progress:
    """Return bars that fit into 80 columns and go when they are done; none where nobody looks on."""
    # In a notebook they live in a widget.
    seen = importlib.util.find_spec("ipywidgets") if console.is_jupyter else console.is_terminal
    return Progress(
        TextColumn("{task.description}"),
        TextColumn("{task.fields[count]}", justify="right"),
        BarColumn(bar_width=None, table_column=Column(max_width=WIDEST_BAR)),
        TextColumn("{task.fields[detail]}"),
        _TimeLeft(table_column=Column(no_wrap=True)),
        console=console,
        transient=True,
        disable=not seen,
    )


def _validated(history: Sequence[dict[str, Any]]) -> str:
    """Tell the figure that a run is judged by: of its last epoch, and of its best."""
    if not history:
        return ""
    last, best = history[-1], next((line for line in reversed(history) if line["best"]), history[-1])
    key = headline({name.removeprefix("val_"): None for name in last if name.startswith("val_")})
    now, then = (figure(key, line[f"val_{key}"]) for line in (last, best))
    return f"val {TITLES[key]} {now}, best {then}"


def _memory(state: TrainState) -> str:
    """Tell the most that training took on the card, elsewhere what this process takes now."""
    import torch

    device = next(state.model.parameters()).device
    taken = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _resident_bytes()
    return f"{taken / 1e9:.1f} GB" if taken else ""


def _resident_bytes() -> int:
    """Return what this process has in memory, or the most it ever had where only that is told; 0 where nothing is."""
    try:
        return int(Path(STATM).read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
