"""What a person sees of a run: two bars of all that matters on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import re
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from rich.console import Console

from zoo.training import progress
from zoo.training.learn.loop import EpochResult
from zoo.training.progress import TrainProgress

from .rig import make_rig

if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo.catalogue import Catalogue
    from zoo.training.learn.state import TrainState

    Shown = Callable[[TrainState], list[str]]

EPOCHS, STEPS, BATCH = 24, 22, 64
WIDTH = 80
HISTORY: list[dict[str, Any]] = [
    {"epoch": 1, "val_loss": 0.7, "val_top1": 0.5, "best": True},
    {"epoch": 2, "val_loss": 0.5, "val_top1": 0.9939, "best": True},
    {"epoch": 3, "val_loss": 0.6, "val_top1": 0.9877, "best": False},
]


@pytest.fixture
def state(catalogue: Catalogue) -> TrainState:
    state = make_rig(catalogue).state
    state.epoch, state.step, state.history = 3, 11, list(HISTORY)
    state.totals = torch.tensor([640 * 0.5123, 600, 640], dtype=torch.float64)
    return state


def watching(
    monkeypatch: pytest.MonkeyPatch, *, terminal: bool, width: int = WIDTH
) -> tuple[TrainProgress, io.StringIO]:
    written = io.StringIO()
    console = Console(file=written, force_terminal=terminal, width=width, markup=False, highlight=False)
    monkeypatch.setattr(progress, "console", lambda: console)
    monkeypatch.setattr(progress, "REFRESH_SECONDS", 0.0)
    return TrainProgress(), written


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """Return the bars after a step, as they stand on a terminal of 80 columns."""

    def show(state: TrainState, *later: TrainState) -> list[str]:
        watch, written = watching(monkeypatch, terminal=True)
        with watch:
            watch.begin(state, EPOCHS, STEPS, BATCH)
            for one in (state, *later):
                watch.step(one)
        # The last frame, which the end of the bars takes away again.
        text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.getvalue()).replace("\r", "\n")
        lines = [line.rstrip() for line in text.splitlines() if line.strip()]
        return lines[-2:]

    return show


def test_two_bars_tell_everything_in_eighty_columns(shown: Shown, state: TrainState) -> None:
    epoch, step = shown(state)
    assert re.fullmatch(r"epoch +4/24 [━╸╺]+ val top-1 98\.77 %, best 99\.39 % +[-:\d]+ left", epoch), epoch
    assert re.fullmatch(r"step +11/22 [━╸╺]+ loss 0\.5123  \d+ images/s  \d+\.\d GB +[-:\d]+ left", step), step
    assert max(len(epoch), len(step)) <= WIDTH


def test_the_widest_numbers_fit_as_well(monkeypatch: pytest.MonkeyPatch, state: TrainState) -> None:
    watch, written = watching(monkeypatch, terminal=True)
    monkeypatch.setattr(progress, "_memory", lambda state: "139.9 GB")
    state.step = 12_344
    with watch:
        watch.begin(state, 300, 12_345, 128)
        watch._first_step -= 50
        watch.step(state)
    assert "12344/12345" in written.getvalue()
    assert "139.9 GB" in written.getvalue()
    assert written.getvalue().count("left") >= 2
    assert "…" not in written.getvalue()


def test_before_the_first_validation_nothing_is_said_of_it(shown: Shown, state: TrainState) -> None:
    state.epoch, state.history = 0, []
    epoch, _ = shown(state)
    assert epoch.startswith("epoch  1/24")
    assert "val" not in epoch


def test_several_labels_have_their_own_figure(shown: Shown, state: TrainState) -> None:
    state.history = [{"val_loss": 0.1, "val_map": 0.75, "val_exact": 0.5, "best": True}]
    assert "val mAP 75.00 %, best 75.00 %" in shown(state)[0]


def test_validation_and_the_last_measure_are_told(shown: Shown, state: TrainState) -> None:
    state.step = STEPS
    assert "  validating  " in shown(state)[1]
    state.epoch, state.step = EPOCHS, 0
    epoch, step = shown(state)
    assert epoch.startswith("epoch 24/24")
    assert "measuring" in step


def test_the_time_of_an_epoch_begins_anew(monkeypatch: pytest.MonkeyPatch, state: TrainState) -> None:
    watch, _ = watching(monkeypatch, terminal=True)
    with watch:
        watch.begin(state, EPOCHS, STEPS, BATCH)
        state.step = STEPS
        watch.step(state)
        assert watch._bars.tasks[-1].time_remaining == 0
        state.epoch, state.step = state.epoch + 1, 1
        watch.step(state)
        assert watch._bars.tasks[-1].time_remaining is None
        assert watch._bars.tasks[-1].completed == 1


def test_memory_is_the_cards_or_the_processes_own(monkeypatch: pytest.MonkeyPatch, state: TrainState) -> None:
    resident = progress._resident_bytes()
    assert 1e8 < resident < 1e11
    block = torch.ones(50_000_000)
    assert progress._resident_bytes() - resident == pytest.approx(block.nbytes, rel=0.2)
    assert progress._memory(state) == f"{progress._resident_bytes() / 1e9:.1f} GB"
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 12_345_000_000)
    on_card: Any = SimpleNamespace(
        model=SimpleNamespace(parameters=lambda: iter([SimpleNamespace(device=torch.device("cuda"))]))
    )
    assert progress._memory(on_card) == "12.3 GB"


def test_where_little_is_told_it_is_the_most_the_process_ever_took(monkeypatch: pytest.MonkeyPatch) -> None:
    now = progress._resident_bytes()
    monkeypatch.setattr(progress, "STATM", "/nowhere")
    assert now * 0.9 < progress._resident_bytes() < 1e11
    monkeypatch.setitem(sys.modules, "resource", None)
    assert progress._resident_bytes() == 0


def test_elsewhere_there_are_plain_lines_only(monkeypatch: pytest.MonkeyPatch, state: TrainState) -> None:
    watch, written = watching(monkeypatch, terminal=False, width=160)
    train, val = {"loss": 0.5, "top1": 0.75}, {"loss": 0.25, "top1": 0.875}
    result = EpochResult(epoch=4, lr=0.1, train=train, val=val, seconds=1.0, images_per_second=99.6, best=True)
    with watch:
        watch.screening(3, 10)
        watch.begin(state, EPOCHS, STEPS, BATCH)
        watch.step(state)
        watch.epoch(result)
    assert written.getvalue() == (
        "epoch   4/24  train loss 0.5000  top-1 75.00 %  val loss 0.2500  top-1 87.50 % *  100 images/s\n"
    )
