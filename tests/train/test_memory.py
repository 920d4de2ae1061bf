"""Where the machine runs out of memory a run ends in one line, and goes on later to the same bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from timm.models.resnet import ResNet

from zoo.data import loader, screen
from zoo.data.decode import to_rgb
from zoo.errors import EnvironmentBroken, TrainingFailed, lacks_memory
from zoo.records.layers import resolve_options
from zoo.records.run import Run
from zoo.runtime import pixels
from zoo.training.session import resume_run, start_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zoo.catalogue import Catalogue
    from zoo.records.config import Resolved

    from ..conftest import Answer

SETTINGS: dict[str, Any] = {
    "model": "test_resnet",
    "dataset": "digits",
    "epochs": 2,
    "image_size": 32,
    "pretrained": False,
    "batch_size": 128,
    "lr": 2e-3,
    "augment": "light",
}


def no_room_in_numpy() -> None:
    np.empty(2**50)


def no_room_in_torch() -> None:
    torch.empty(2**50)


def no_thread() -> None:
    raise RuntimeError("can't start new thread")


def no_room_in_opencv() -> None:
    import cv2

    raise cv2.error("OpenCV(5.0.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 9 bytes")


SHORTAGES = [no_room_in_numpy, no_room_in_torch, no_thread, no_room_in_opencv]


def options(catalogue: Catalogue, **given: Any) -> Resolved:
    return resolve_options(catalogue, {**SETTINGS, **given}, None, None)


@pytest.fixture(scope="module")
def whole(catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that had enough."""
    return start_run(catalogue, options(catalogue), tmp_path_factory.mktemp("runs") / "whole")


def check_goes_on(catalogue: Catalogue, path: Path, whole: Run) -> None:
    """See that what is left on the disk is enough to end as if nothing had been."""
    assert not Run(path).finished
    resumed = resume_run(catalogue, Run(path), lambda saved: saved.model_copy(update={"workers": 0}))
    assert resumed.best_file.read_bytes() == whole.best_file.read_bytes()
    assert resumed.metrics_file.read_bytes() == whole.metrics_file.read_bytes()


@pytest.mark.parametrize("shortage", SHORTAGES)
def test_every_library_has_its_own_words_for_it(shortage: Callable[[], object]) -> None:
    with pytest.raises(Exception, match=r".") as caught:
        shortage()
    assert lacks_memory(caught.value)


@pytest.mark.parametrize("other", [RuntimeError("shapes do not fit"), OSError(28, "no space"), EnvironmentBroken("x")])
def test_other_errors_are_left_alone(other: Exception) -> None:
    assert not lacks_memory(other)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_thread_of_the_loader(
    catalogue: Catalogue, whole: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, workers: int
) -> None:
    real = loader._Sampler.draw
    calls: list[None] = []

    def draw(self: Any, *arguments: Any) -> Any:
        calls.append(None)
        # In the second epoch of 11 steps.
        if len(calls) > 128 * 14:
            no_room_in_numpy()
        return real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loader._Sampler, "draw", draw)
        with pytest.raises(
            TrainingFailed, match=r"out of memory after step \d of epoch 2: Unable to allocate 8"
        ) as told:
            start_run(catalogue, options(catalogue, workers=workers), tmp_path / "run")
    text = str(told.value)
    assert "`zoo train --resume --name run --workers 0`" in text
    assert "--batch-size" in text
    assert "\n" not in text
    check_goes_on(catalogue, tmp_path / "run", whole)


@pytest.mark.parametrize(("epoch", "where"), [(1, "while epoch 2 was validated"), (2, "while the best weights")])
def test_validation_and_the_last_measure(
    catalogue: Catalogue, whole: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, epoch: int, where: str
) -> None:
    real, passes = ResNet.forward, []

    def forward(self: ResNet, images: torch.Tensor) -> torch.Tensor:
        passes.append(self.training)
        # Four batches for the norms' statistics and three of a validation; counted from the end of a training epoch.
        if not self.training and passes.count(True) >= 22 and (epoch == 1 or passes[-8:] == [False] * 8):
            no_room_in_torch()
        found: torch.Tensor = real(self, images)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(ResNet, "forward", forward)
        with pytest.raises(TrainingFailed, match=rf"out of memory {where}.*can't allocate memory"):
            start_run(catalogue, options(catalogue), tmp_path / "run")
    check_goes_on(catalogue, tmp_path / "run", whole)


def test_before_there_is_a_run(cli: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "_look", lambda *_: no_room_in_numpy())
    answer = cli("train", "tiny", "--dataset", "digits")
    assert answer.code == 1
    assert "out of memory: Unable to allocate 8" in answer.error
    assert "--workers" in answer.error


def test_an_image_without_room_is_not_a_broken_one(monkeypatch: pytest.MonkeyPatch, pictures: Path) -> None:
    image = next(pictures.rglob("*.jpg"))
    monkeypatch.setattr(pixels, "_decode", lambda *_: no_room_in_numpy())
    with pytest.raises(MemoryError):
        to_rgb(image)
