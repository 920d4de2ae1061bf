"""Our trackers keep the promises of every tracker, and what they wrote can be read with their own libraries."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from zoo.errors import EnvironmentBroken, OptionInvalid
from zoo.testing import TrackerContract
from zoo.testing.tracker import CONFIG, EPOCHS, FINAL, REPORT, make_run, tell
from zoo_plugins import tracker_mlflow, tracker_process, tracker_tensorboard, tracker_wandb
from zoo_plugins.tracker_numbers import numbers

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("tensorboard", "mlflow", "wandb")
# What is read back in a process of its own: these libraries leave marks on the one that imports them.
READ_MLFLOW = """
import json, sys
from mlflow import MlflowClient
client = MlflowClient(tracking_uri="sqlite:///" + sys.argv[1] + "/mlflow/mlflow.db")
(run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
points = {key: client.get_metric_history(run.info.run_id, key) for key in run.data.metrics}
history = {key: [[point.step, point.value] for point in found] for key, found in points.items()}
print(json.dumps([run.info.run_name, run.info.status, run.data.params, history]))
"""
READ_WANDB = """
import json, struct, sys
from pathlib import Path
from wandb.proto.wandb_internal_pb2 import Record

def records(data):
    # LevelDB's log after seven bytes of wandb's own: blocks of 32 KiB, pieces of (crc, length, whole or which part).
    place, whole = 7, b""
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield Record.FromString(whole)
            whole = b""

kept = {"config": {}, "history": [], "summary": {}, "ids": []}
for file in sys.argv[1:]:
    for record in records(Path(file).read_bytes()):
        kind = record.WhichOneof("record_type")
        key = lambda item: item.key or "/".join(item.nested_key)
        if kind == "run":
            kept["ids"].append(record.run.run_id)
            kept["config"] |= {key(item): json.loads(item.value_json) for item in record.run.config.update}
        if kind == "history":
            kept["history"].append({key(item): json.loads(item.value_json) for item in record.history.item})
        if kind == "summary":
            kept["summary"] |= {key(item): json.loads(item.value_json) for item in record.summary.update}
print(json.dumps(kept))
"""


class TestTensorBoard(TrackerContract):
    name = "tensorboard"


# Its import alone takes seconds, in each process.
@pytest.mark.slow
class TestMlflow(TrackerContract):
    name = "mlflow"


class TestWandb(TrackerContract):
    name = "wandb"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


def make(catalogue: Any, name: str, **options: Any) -> Any:
    return catalogue.get("tracker", name)(**options)


def read(code: str, *arguments: str, cwd: Path) -> Any:
    env = {**os.environ, "HOME": str(cwd), "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments], cwd=cwd, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def hear_in_two_parts(catalogue: Any, name: str, run: Path) -> None:
    """A run that is stopped after two epochs, resumed, finished, and exported."""
    tell(make(catalogue, name), run, epochs=EPOCHS[:2], final={})
    # TensorBoard reads files by the second in their names; a process that starts again takes longer than one.
    time.sleep(1.1)
    tell(make(catalogue, name), run, epochs=EPOCHS[2:])
    time.sleep(1.1)
    tracker = make(catalogue, name)
    tracker.start(run, CONFIG)
    tracker.artifact(run / "export" / "onnx-fp32", REPORT)
    tracker.end({})


def test_tensorboard_shows_a_resumed_run_as_one(catalogue: Any, run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    hear_in_two_parts(catalogue, "tensorboard", run)
    kept = EventAccumulator(str(run / "tensorboard"))
    kept.Reload()
    losses = [(point.step, point.value) for point in kept.Scalars("val/loss")]
    assert losses == [(e["epoch"], pytest.approx(e["val_loss"])) for e in EPOCHS]
    assert kept.Scalars("final/test/top1")[0].value == pytest.approx(0.92)
    assert kept.Scalars("onnx-fp32/latency_ms/artifact/p50")[0].value == 0.5
    assert "digits" in str(kept.Tensors("config/text_summary")[0])


@pytest.mark.slow
def test_mlflow_shows_a_resumed_run_as_one(catalogue: Any, run: Path, tmp_path: Path) -> None:
    hear_in_two_parts(catalogue, "mlflow", run)
    name, status, options, history = read(READ_MLFLOW, str(run), cwd=tmp_path)
    assert (name, status, options["epochs"], options["lr"]) == ("run", "FINISHED", "3", "0.002")
    assert history["val_loss"] == [[e["epoch"], e["val_loss"]] for e in EPOCHS]
    assert history["final/test/top1"][-1][1] == 0.92
    assert history["onnx-fp32/artifact_top1"][-1][1] == 0.93


@pytest.mark.slow
def test_wandb_shows_a_resumed_run_as_one(catalogue: Any, run: Path, tmp_path: Path) -> None:
    hear_in_two_parts(catalogue, "wandb", run)
    files = sorted(run.glob("wandb/offline-run-*/*.wandb"), key=lambda file: file.stat().st_mtime)
    kept = read(READ_WANDB, *map(str, files), cwd=tmp_path)
    assert len(set(kept["ids"])) == 1
    assert kept["config"]["lr"] == 0.002
    assert [row["val_loss"] for row in kept["history"]] == [e["val_loss"] for e in EPOCHS]
    assert [row["_step"] for row in kept["history"]] == [1, 2, 3]
    assert kept["summary"]["final/test/top1"] == 0.92
    assert kept["summary"]["onnx-fp32/artifact_top1"] == 0.93


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_package_is_one_line(catalogue: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *rest: None if n == name else found(n, *rest))
    with pytest.raises(EnvironmentBroken, match=rf'pip install "edgezoo\[{name}\]"'):
        make(catalogue, name)


def test_an_unknown_mode_of_wandb_is_one_line(catalogue: Any) -> None:
    with pytest.raises(OptionInvalid, match="offline, online, disabled"):
        make(catalogue, "wandb", mode="on")


@pytest.mark.parametrize("name", [pytest.param("mlflow", marks=pytest.mark.slow), "wandb"])
def test_nothing_is_written_in_the_home(
    catalogue: Any, name: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library's own process cannot be watched from here, so its folders are."""
    for folder in ("home", "cwd"):
        (tmp_path / folder).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "cwd")
    tell(make(catalogue, name), run)
    assert list((tmp_path / "home").rglob("*")) == []
    assert list((tmp_path / "cwd").rglob("*")) == []


class Faulty:
    """A session whose library raises, or ends its process."""

    def __init__(self, how: str) -> None:
        print("a library may print")
        self.how = how

    def epoch(self, metrics: dict[str, float]) -> None:
        if self.how == "exits":
            os._exit(3)
        if self.how == "hangs":
            threading.Event().wait()
        raise ValueError("the server is away\nand more")


@pytest.mark.parametrize(
    ("how", "told"),
    [("raises", "ValueError: the server is away"), ("exits", "its process has ended"), ("hangs", "does not answer")],
)
def test_a_library_that_fails_is_told_in_one_line(how: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    process = tracker_process.TrackerProcess(Faulty, {}, {"how": how})
    monkeypatch.setattr(tracker_process, "SECONDS", 1)
    with pytest.raises(EnvironmentBroken, match=told):
        process.tell("epoch", {"metrics": {}})
    assert process._process.poll() is not None


def test_numbers_are_flat_and_leave_tables_out() -> None:
    assert numbers(FINAL) == {"epochs": 3, "best_val_top1": 0.93, "test/top1": 0.92}
    assert math.isnan(numbers({"loss": math.nan})["loss"])
    assert numbers({"a": {"b": {"c": {"d": 1}}}, "text": "x"}) == {}


def test_a_tracker_imports_its_library_nowhere_but_inside(tmp_path: Path) -> None:
    code = "import sys; import {}; print([n for n in ('mlflow', 'wandb', 'tensorboard', 'torch') if n in sys.modules])"
    for module in (tracker_mlflow, tracker_tensorboard, tracker_wandb):
        done = subprocess.run(
            [sys.executable, "-c", code.format(module.__name__)], capture_output=True, text=True, cwd=tmp_path
        )
        assert done.stdout.strip() == "[]", done.stderr
