"""Trackers hear a run from start to end; one that fails is dropped, and the run goes on."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from zoo.catalogue.installed import Plugin
from zoo.catalogue.made.tracker import Trackers, check_trackers, make_trackers
from zoo.errors import OptionInvalid, PluginBroken

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zoo.plugin import Tracker


@dataclass
class Recorder:
    """Remembers what it was told."""

    events: list[tuple[Any, ...]] = field(default_factory=list)
    fails_at: str = ""

    def start(self, run: Path, config: Mapping[str, object]) -> None:
        self.told("start", run, dict(config))

    def epoch(self, metrics: Mapping[str, float | int]) -> None:
        self.told("epoch", metrics)

    def artifact(self, folder: Path, report: Mapping[str, object]) -> None:
        self.told("artifact", folder, report)

    def end(self, metrics: Mapping[str, object]) -> None:
        self.told("end", metrics)

    def told(self, event: str, *facts: Any) -> None:
        if event == self.fails_at:
            raise SystemExit("no server")
        self.events.append((event, *facts))


class Fake:
    """A catalogue with trackers."""

    def __init__(self, **makers: Any) -> None:
        self.makers = makers

    def find(self, kind: str, name: str) -> Plugin:
        point = importlib.metadata.EntryPoint(name, "strangers:make", f"zoo.{kind}s")
        return Plugin(kind, name, "strangers", "1.0", point)

    def load(self, plugin: Plugin) -> Any:
        assert plugin.kind == "tracker"
        return self.makers[plugin.name]


def maker(*, address: str = "", retries: int = 3) -> Tracker:
    recorder = Recorder()
    recorder.events.append(("made", address, retries))
    return recorder


def tell(trackers: Trackers) -> None:
    trackers.start(Path("run"), {"epochs": 2})
    trackers.epoch({"epoch": 1})
    trackers.epoch({"epoch": 2})
    trackers.artifact(Path("run/export/onnx-fp32"), {"accepted": True})
    trackers.end({"top1": 0.5})


def test_each_hears_everything_in_order() -> None:
    one, other = Recorder(), Recorder()
    tell(Trackers({"one": one, "other": other}, lambda text: pytest.fail(text)))
    assert [event[0] for event in one.events] == ["start", "epoch", "epoch", "artifact", "end"]
    assert one.events == other.events


@pytest.mark.parametrize("event", ["start", "epoch", "artifact", "end"])
def test_one_that_fails_is_dropped_with_one_note(event: str) -> None:
    notes: list[str] = []
    bad, good = Recorder(fails_at=event), Recorder()
    tell(Trackers({"bad": bad, "good": good}, notes.append))
    assert len(good.events) == 5
    assert notes == ["tracker 'bad' failed and hears no more: SystemExit: no server"]


def test_one_without_artifact_is_fine() -> None:
    recorder = Recorder()
    lean: Any = type("Lean", (), {name: getattr(recorder, name) for name in ("start", "epoch", "end")})()
    tell(Trackers({"lean": lean}, lambda text: pytest.fail(text)))
    assert len(recorder.events) == 4


def test_nobody_hears_anything_after_the_end() -> None:
    recorder = Recorder()
    trackers = Trackers({"one": recorder}, lambda text: pytest.fail(text))
    trackers.end({})
    trackers.epoch({"epoch": 1})
    assert [event[0] for event in recorder.events] == ["end"]


def test_options_go_to_the_only_one_or_to_the_one_that_is_named() -> None:
    catalogue: Any = Fake(one=maker, other=maker)

    def made(names: tuple[str, ...], options: dict[str, Any]) -> list[Any]:
        makers: dict[str, Any] = dict(check_trackers(catalogue, names, options))
        return [make().events[0][1:] for make in makers.values()]

    assert made(("one",), {"retries": "5"}) == [("", 5)]
    assert made(("one", "other"), {"one.retries": "5", "other.address": "a.b"}) == [("", 5), ("a.b", 3)]
    for names, options in ((("one", "other"), {"retries": "5"}), ((), {"retries": "5"}), (("one",), {"retires": "5"})):
        with pytest.raises(OptionInvalid, match="ret"):
            make_trackers(catalogue, names, options, lambda text: None)


def test_one_that_cannot_be_made_is_told_in_one_line() -> None:
    def broken() -> Tracker:
        raise ImportError("no module named wandb\nat all")

    line = "tracker 'one' from strangers 1.0 failed: ImportError: no module named wandb; "
    with pytest.raises(PluginBroken, match=line) as caught:
        make_trackers(cast("Any", Fake(one=broken)), ("one",), {}, lambda text: None)
    assert "\n" not in str(caught.value)
