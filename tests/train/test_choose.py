"""Precision and layout are timed on the real model, and nothing of the run moves meanwhile."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch

from zoo.contracts.preprocess import Preprocess
from zoo.errors import OptionInvalid
from zoo.records.config import TrainConfig
from zoo.records.layers import resolve_options
from zoo.training import settle as settling
from zoo.training.machine import timing
from zoo.training.machine.choose import choose
from zoo.training.machine.remembered import recall, remember
from zoo.training.machine.timing import fastest_mode, possible_modes, rounds_for, usual_mode
from zoo.training.machine.trial import Mode, Trial
from zoo.training.session import resume_run, start_run
from zoo.training.watch import Watch

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.catalogue import Catalogue
    from zoo.records.run import Run

PLAIN = Mode(precision="fp32", layout="nchw")
SHORT = Mode(precision="bf16", layout="nhwc")
ALL = tuple(Mode(precision=p, layout=layout) for p in ("fp32", "bf16") for layout in ("nchw", "nhwc"))


class Net(torch.nn.Module):
    """Batch statistics and dropout: what careless timing would move."""

    def __init__(self, groups: int = 1) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 3)
        self.conv = torch.nn.Conv2d(8, 8, 3, groups=groups)
        self.norm = torch.nn.BatchNorm2d(8)
        self.drop = torch.nn.Dropout(0.5)
        self.head = torch.nn.Linear(8, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(self.drop(self.norm(self.conv(self.stem(images)))).mean((2, 3)))
        return found


def trial(model: torch.nn.Module) -> Trial:
    return Trial(model=model, preprocess=Preprocess(size=(12, 12)), device="cpu")


def config(**given: Any) -> TrainConfig:
    return TrainConfig(model="m", dataset="d", device="cpu", **given)


class Clock:
    """Time that passes only where a mode takes it."""

    def __init__(self, seconds: dict[Mode, float]) -> None:
        self.seconds, self.now = seconds, 0.0

    def perf_counter(self) -> float:
        return self.now


def timed(monkeypatch: pytest.MonkeyPatch, seconds: dict[Mode, float], **losses: float) -> list[Mode]:
    """Let steps take these seconds, without running them; return what will have run."""
    clock, ran = Clock(seconds), []

    def step(self: Trial, model: torch.nn.Module, pixels: torch.Tensor, mode: Mode) -> float:
        ran.append(mode)
        clock.now += seconds[mode]
        return losses.get(mode.precision, 1.0)

    monkeypatch.setattr(timing, "time", clock)
    monkeypatch.setattr(Trial, "step", step)
    return ran


def test_the_fastest_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = timed(monkeypatch, dict(zip(ALL, [0.4, 0.3, 0.2, 0.1], strict=True)))
    found = fastest_mode(trial(Net()), ALL, 4, rounds=2)
    assert found is not None
    assert (found.mode, found.over, round(found.speedup, 6)) == (SHORT, PLAIN, 4.0)
    assert ran == [*ALL] * 3


def test_a_tie_goes_to_the_plainer(monkeypatch: pytest.MonkeyPatch) -> None:
    timed(monkeypatch, dict(zip(ALL, [0.102, 0.1, 0.1, 0.1], strict=True)))
    found = fastest_mode(trial(Net()), ALL, 4, rounds=2)
    assert found is not None
    assert found.mode == PLAIN


def test_a_loss_that_is_not_finite_rules_a_precision_out(monkeypatch: pytest.MonkeyPatch) -> None:
    timed(monkeypatch, dict(zip(ALL, [0.4, 0.3, 0.2, 0.1], strict=True)), bf16=float("nan"))
    found = fastest_mode(trial(Net()), ALL, 4, rounds=2)
    assert found is not None
    assert found.mode == Mode(precision="fp32", layout="nhwc")


def test_slow_steps_end_the_timing_early(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = timed(monkeypatch, dict.fromkeys(ALL, 1.0))
    fastest_mode(trial(Net()), ALL, 4, rounds=4)
    assert len(ran) == 3 * len(ALL)


def test_a_step_that_something_else_held_up_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = dict(zip(ALL, [0.4, 0.3, 0.2, 0.1], strict=True))
    ran = timed(monkeypatch, seconds)
    real = Trial.step

    def step(self: Trial, model: torch.nn.Module, pixels: torch.Tensor, mode: Mode) -> float:
        seconds[SHORT] = 5.0 if len(ran) == 7 else 0.1
        return real(self, model, pixels, mode)

    monkeypatch.setattr(Trial, "step", step)
    found = fastest_mode(trial(Net()), ALL, 4, rounds=2)
    assert found is not None
    assert found.mode == SHORT


def test_timing_moves_neither_weights_nor_statistics_nor_random_state() -> None:
    model = Net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    assert fastest_mode(trial(model), ALL, 4, rounds=1) is not None
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.stem.weight.is_contiguous()


def test_only_what_the_options_leave_open_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "usual_precision", lambda device: "bf16")
    assert possible_modes(config(), "cpu") == ALL
    assert possible_modes(config(precision="fp32"), "cpu") == ALL[:2]
    assert possible_modes(config(layout="nhwc"), "cpu") == (ALL[1], ALL[3])
    assert possible_modes(config(precision="bf16", layout="nhwc"), "cpu") == (SHORT,)
    monkeypatch.setattr(timing, "usual_precision", lambda device: "fp32")
    assert possible_modes(config(), "cpu") == ALL[:2]
    assert [mode.precision for mode in possible_modes(config(layout="nhwc"), "cuda")] == ["fp32", "fp16"]


def test_the_rule_knows_that_grouped_convolutions_want_fp32_on_a_cpu() -> None:
    assert usual_mode(ALL, Net(), "cpu") == SHORT
    assert usual_mode(ALL, Net(groups=8), "cpu") == Mode(precision="fp32", layout="nhwc")
    assert usual_mode(ALL, Net(groups=8), "cuda") == SHORT
    assert usual_mode((SHORT,), Net(groups=8), "cpu") == SHORT


def test_a_short_run_is_not_timed_and_a_long_one_hardly_pays() -> None:
    assert rounds_for(ALL, 399) == 0
    assert rounds_for(ALL, 400) == 2
    assert rounds_for(ALL, 10**6) == 4


def test_what_was_measured_is_remembered(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    key = {"model": "m", "size": (3, 4)}
    assert recall(key) is None
    remember(key, {"precision": "bf16"})
    remember({**key, "size": (4, 4)}, 7)
    assert recall(key) == {"precision": "bf16"}
    assert len(json.loads((tmp_path / "measured.json").read_text())) == 2
    (tmp_path / "measured.json").write_text('{"cut')
    assert recall(key) is None
    remember(key, 1)
    assert recall(key) == 1


def test_a_home_that_cannot_be_written_only_forgets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "file"))
    remember({"model": "m"}, 1)
    assert recall({"model": "m"}) is None


class Notes(Watch):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def note(self, text: str) -> None:
        self.heard.append(text)


def train(catalogue: Catalogue, path: Path, notes: Watch | None = None, **given: Any) -> Run:
    settings = {"model": "test_resnet", "dataset": "digits", "epochs": 1, "image_size": 32, "pretrained": False}
    settings |= {"augment": "light", "backbone_options": {"drop_rate": 0.2}, "device": "cpu"}
    return start_run(catalogue, resolve_options(catalogue, {**settings, **given}, None, None), path, notes)


def test_a_run_that_chose_equals_one_that_was_told(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(settling, "rounds_for", lambda modes, steps: 1)
    notes, again = Notes(), Notes()
    chose = train(catalogue, tmp_path / "chose", notes)
    chosen = chose.record().chosen
    mode = f"{chosen['precision']}, {chosen['layout']}"
    assert [line for line in notes.heard if line.startswith(f"{mode}: the fastest here (")]
    monkeypatch.setattr(settling, "fastest_mode", lambda *_: pytest.fail("it was remembered"))
    other = train(catalogue, tmp_path / "again", again)
    assert [line for line in again.heard if "fastest" in line] == [line for line in notes.heard if "fastest" in line]
    told = train(catalogue, tmp_path / "told", precision=chosen["precision"], layout=chosen["layout"])
    assert chose.best_file.read_bytes() == other.best_file.read_bytes() == told.best_file.read_bytes()


def test_a_resume_keeps_what_was_chosen(catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo.errors import Interrupted

    class Stop(Watch):
        def step(self, state: object) -> None:
            raise Interrupted

    odd = Mode(precision="bf16", layout="nchw")
    monkeypatch.setattr(settling, "usual_mode", lambda *_: odd)
    with pytest.raises(Interrupted):
        train(catalogue, tmp_path / "run", Stop())
    monkeypatch.setattr(settling, "usual_mode", lambda *_: pytest.fail("chosen already"))
    from zoo.records.run import Run

    chosen = resume_run(catalogue, Run(tmp_path / "run"), lambda saved: saved).record().chosen
    assert (chosen["precision"], chosen["layout"]) == ("bf16", "nchw")


def test_choose_leaves_what_was_asked_for() -> None:
    chosen = choose(config(precision="fp32", layout="nhwc", batch_size=6))
    assert (chosen.precision, chosen.layout, chosen.batch_size) == ("fp32", "nhwc", 6)


class Shrinking(torch.nn.Module):
    """Halves its map once more than a small image allows."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(*(torch.nn.Conv2d(3 if i == 0 else 8, 8, 3, 2, 1) for i in range(4)))
        self.head = torch.nn.Linear(8, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(self.layers(images).mean((2, 3)))
        return found


def test_bf16_is_left_out_where_it_loses_gradients() -> None:
    def small(size: int) -> Trial:
        return Trial(model=Shrinking(), preprocess=Preprocess(size=(size, size)), device="cpu")

    assert settling._sound(ALL, small(16)) == ALL
    assert settling._sound(ALL, small(8)) == tuple(mode for mode in ALL if mode.precision == "fp32")
    with pytest.raises(OptionInvalid, match="--precision bf16"):
        settling._sound((SHORT,), small(8))


def test_channels_last_is_left_out_where_it_kills_the_process() -> None:
    def begins_with(channels: int, *, stride: int = 2, device: str = "cpu") -> Trial:
        first = torch.nn.Conv2d(channels, 8, 1, stride=stride)
        return Trial(model=torch.nn.Sequential(first), preprocess=Preprocess(size=(32, 32)), device=device)

    plain = tuple(mode for mode in ALL if mode.layout == "nchw")
    assert settling._sound(ALL, begins_with(3)) == plain
    assert settling._sound(plain, begins_with(3)) == plain
    assert not begins_with(16).dies_in_nhwc()
    assert not begins_with(3, stride=1).dies_in_nhwc()
    assert not begins_with(3, device="cuda").dies_in_nhwc()
    with pytest.raises(OptionInvalid, match="--layout nhwc"):
        settling._sound((SHORT,), begins_with(3))
