"""The largest batch that fits is found once; where memory runs out later, smaller batches make the same steps."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from timm.models.resnet import ResNet

from zoo.contracts.preprocess import Preprocess
from zoo.errors import Interrupted, TrainingFailed
from zoo.records.layers import resolve_options
from zoo.records.run import Run
from zoo.training import settle as settling
from zoo.training.machine import batch_size as sizes
from zoo.training.machine.batch_size import bytes_per_image, free_memory, largest_batch, search
from zoo.training.machine.by_images import batch_for, epochs_for
from zoo.training.machine.trial import Mode, Trial
from zoo.training.session import resume_run, start_run
from zoo.training.watch import Watch

from .test_options import StopFrom

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zoo.catalogue import Catalogue
    from zoo.training.learn.state import TrainState

    from ..conftest import Answer

PLAIN = Mode(precision="fp32", layout="nchw")


@pytest.mark.parametrize("room", [2, 3, 4, 7, 8, 15, 16, 40, 100, 127, 128, 129, 255, 256, 257, 10**6])
def test_the_search_finds_what_fits(room: int) -> None:
    tried: list[int] = []

    def fits(images: int) -> bool:
        tried.append(images)
        return images <= room

    found = search(fits, 256)
    allowed = [2, 4, *range(8, 257, 8)]
    assert found == max(images for images in allowed if images <= room)
    assert len(tried) <= 12


def test_a_search_that_finds_nothing_says_what_to_do() -> None:
    with pytest.raises(TrainingFailed, match="--image-size"):
        search(lambda images: False, 256)


def test_an_epoch_keeps_steps_to_learn_in() -> None:
    assert batch_for(100_000, 256) == 256
    assert batch_for(1600, 256) == 100
    assert batch_for(40, 256) == 16
    assert batch_for(7, 256) == 6
    assert batch_for(1600, 4) == 4


@pytest.mark.parametrize(
    ("images", "batch_size", "epochs"), [(150, 16, 20), (250, 16, 14), (1, 16, 20), (1000, 62, 13), (10_000, 64, 10)]
)
def test_few_images_get_more_epochs(images: int, batch_size: int, epochs: int) -> None:
    assert batch_for(max(images, 16)) == batch_size
    assert epochs_for(images, batch_size) == epochs


def test_batch_and_epochs_by_images(catalogue: Catalogue, tmp_path: Path, pictures: Path) -> None:
    given: dict[str, Any] = {"model": "test_resnet", "dataset": str(pictures), "pretrained": False, "image_size": 32}
    given |= {"epochs": "auto", "batch_size": "by-images", "threads": 1, "patience": 1, "lr": 1e-9}
    with pytest.raises(Interrupted):
        start_run(catalogue, resolve_options(catalogue, given, None, None), tmp_path / "run", StopFrom(1, 1))
    run = resume_run(catalogue, Run(tmp_path / "run"), lambda saved: saved)
    record = run.record()
    images = record.dataset_sizes["train"]
    assert record.chosen["batch_size"] == batch_for(images)
    assert record.chosen["epochs"] == epochs_for(images, record.chosen["batch_size"])
    assert (record.config["epochs"], record.config["batch_size"]) == ("auto", "by-images")


def trial(channels: int) -> Trial:
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, channels, 1),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(channels * 64, 2),
    )
    return Trial(model=model, preprocess=Preprocess(size=(8, 8)), device="cpu")


def test_bytes_are_counted_image_by_image() -> None:
    # float32: the normalised image, what the ReLU gave (the linear layer keeps the same memory), two probabilities.
    for channels in (16, 32):
        assert bytes_per_image(trial(channels), PLAIN) == pytest.approx(4 * (3 * 64 + channels * 64 + 2), abs=64)


def test_what_is_free_decides_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    each = bytes_per_image(trial(16), PLAIN) * sizes.WORKING / sizes.SHARE_OF_FREE
    monkeypatch.setattr(sizes, "free_memory", lambda: 50 * each)
    there = trial(16)
    state = torch.get_rng_state()
    assert largest_batch(there, PLAIN) == 48
    assert torch.equal(torch.get_rng_state(), state)


def test_the_system_tells_what_is_free() -> None:
    assert 1e8 < free_memory() < 1e14


def options(**given: Any) -> dict[str, Any]:
    settings = {"model": "test_resnet", "dataset": "digits", "epochs": 2, "image_size": 32, "pretrained": False}
    return {**settings, "augment": "light", "device": "cpu", "precision": "fp32", "layout": "nhwc", **given}


def train(catalogue: Catalogue, path: Path, watch: Watch | None = None, **given: Any) -> Run:
    return start_run(catalogue, resolve_options(catalogue, options(**given), None, None), path, watch)


class Notes(Watch):
    def __init__(self, stop_at: tuple[int, int] = (-1, -1)) -> None:
        self.heard: list[str] = []
        self.stop_at = stop_at
        self.steps: list[tuple[int, int]] = []

    def note(self, text: str) -> None:
        self.heard.append(text)

    def step(self, state: TrainState) -> None:
        self.steps.append((state.epoch, state.step))
        if (state.epoch, state.step) == self.stop_at:
            raise Interrupted


def test_auto_takes_what_fits_and_remembers_it(
    cli: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    command = ["train", "test_resnet", "--dataset", "digits", "--no-pretrained", "--image-size", 32, "--epochs", 1]
    command += ["--augment", "light", "--batch-size", "auto", "--json"]
    first = cli(*command, "--name", "first")
    assert first.code == 0, first.stderr
    record = json.loads(first.stdout)
    # 1,438 training images leave 16 steps of 88.
    assert record["config"]["batch_size"] == "auto"
    assert record["chosen"]["batch_size"] == record["dataset_sizes"]["train"] // 16 // 2 * 2
    assert "256 would fit" in first.stderr
    monkeypatch.setattr(settling, "largest_batch", lambda *_: pytest.fail("it was remembered"))
    second = cli(*command, "--name", "second")
    assert json.loads(second.stdout)["chosen"] == record["chosen"]


def test_a_wrong_batch_size_is_told_in_one_line(cli: Callable[..., Answer]) -> None:
    answer = cli("train", "test_resnet", "--dataset", "digits", "--batch-size", "many", "--dry-run")
    assert answer.code == 2
    assert "--batch-size: 'many' is no number, nor auto or by-images" in answer.stderr


def short_of_memory(monkeypatch: pytest.MonkeyPatch, most: int, *, from_call: int = 0) -> None:
    """Let training fail above so many images, from some forward pass on."""
    real, calls = ResNet.forward, []

    def forward(self: ResNet, images: torch.Tensor) -> torch.Tensor:
        calls.append(len(images))
        if self.training and len(images) > most and len(calls) > from_call:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        found: torch.Tensor = real(self, images)
        return found

    monkeypatch.setattr(ResNet, "forward", forward)


def test_out_of_memory_goes_on_as_a_run_that_was_told_smaller_batches(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = train(catalogue, tmp_path / "told", batch_size=16, accumulate=4)
    short_of_memory(monkeypatch, 20)
    notes = Notes()
    run = train(catalogue, tmp_path / "run", notes, batch_size=64)
    assert [line.split(";")[0] for line in notes.heard if "memory" in line] == [
        "out of memory with 64 images a batch",
        "out of memory with 32 images a batch",
    ]
    assert run.best_file.read_bytes() == told.best_file.read_bytes()
    record = run.record()
    assert (record.config["batch_size"], record.config["accumulate"]) == (16, 4)
    assert record.chosen["batch_size"] == 16
    assert record.origins["batch_size"] == record.origins["accumulate"] == "out of memory"


@pytest.mark.slow
def test_out_of_memory_later_goes_back_to_the_last_checkpoint_and_resumes_to_the_bit(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"batch_size": 64, "ema_decay": 0.9, "checkpoint_steps": 5}
    with monkeypatch.context() as patch:
        short_of_memory(patch, 40, from_call=12)
        whole = train(catalogue, tmp_path / "whole", **given)
    lines = [json.loads(line) for line in whole.metrics_file.read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    with monkeypatch.context() as patch:
        short_of_memory(patch, 40, from_call=12)
        notes = Notes((1, 6))
        with pytest.raises(Interrupted):
            train(catalogue, tmp_path / "stopped", notes, **given)
    assert [line for line in notes.heard if "going on in epoch 1 with 32, and 2 batches" in line]
    # The checkpoint was that of step 10, 640 images; 1,461 images have 45 of the smaller batches.
    # The last is heard of again while it is validated.
    first = list(dict.fromkeys(step for epoch, step in notes.steps if epoch == 0))
    before = len(first) - 13
    assert first == [*range(1, before + 1), *range(22, 45, 2), 45]
    resumed = resume_run(catalogue, Run(tmp_path / "stopped"), lambda saved: saved)
    assert resumed.best_file.read_bytes() == whole.best_file.read_bytes()


def test_out_of_memory_with_two_images_ends_in_one_line(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    short_of_memory(monkeypatch, 1)
    with pytest.raises(TrainingFailed, match="out of memory with 2 images a batch; try a smaller --image-size"):
        train(catalogue, tmp_path / "run", batch_size=8)
