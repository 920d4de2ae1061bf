"""Norms have the statistics of the weights that ship, however few steps a run has."""

from __future__ import annotations

import runpy
from typing import TYPE_CHECKING, Any

import pytest
import torch

from zoo.data.loader import TrainLoader
from zoo.errors import Interrupted
from zoo.plugin import Split
from zoo.records.layers import resolve_options
from zoo.records.run import Run
from zoo.training.learn.loaders import Loaders
from zoo.training.learn.norms import estimate_norms
from zoo.training.session import resume_run, start_run

from ..conftest import ROOT
from .rig import batch, make_rig
from .test_options import StopFrom

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from zoo.catalogue import Catalogue

    from .rig import Rig


def loaders_of(rig: Rig, images: np.ndarray, labels: np.ndarray) -> Loaders:
    split = Split(images=list(images), labels=labels)
    train = TrainLoader(split=split, augmentation=lambda: None, size=(32, 32), batch_size=8, seed=0)  # type: ignore[arg-type,return-value]
    return Loaders(train=train, val=split, preprocess=rig.preprocess, workers=0)


def first_norm(model: torch.nn.Module) -> torch.nn.BatchNorm2d:
    return next(part for part in model.modules() if isinstance(part, torch.nn.BatchNorm2d))


def test_statistics_are_those_of_the_images(catalogue: Catalogue) -> None:
    rig = make_rig(catalogue, ema_decay=0.9)
    images, labels = batch(96)
    rig.train((images[:8], labels[:8]))
    average = rig.state.weights_to_ship()
    seen: list[torch.Tensor] = []
    first_norm(average).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    estimate_norms(rig.state, loaders_of(rig, images, labels), rig.plan)
    # 96 images are two batches of 48.
    assert [len(one) for one in seen] == [48, 48]
    mean = torch.stack([one.mean((0, 2, 3)) for one in seen]).mean(0)
    variance = torch.stack([one.var((0, 2, 3)) for one in seen]).mean(0)
    torch.testing.assert_close(first_norm(average).running_mean, mean)
    torch.testing.assert_close(first_norm(average).running_var, variance)
    assert first_norm(average).momentum == 0.1
    assert not any(part.training for part in average.modules())


def test_it_can_be_done_again(catalogue: Catalogue) -> None:
    rig = make_rig(catalogue)
    images, labels = batch(20)
    rig.train((images[:8], labels[:8]))
    estimate_norms(rig.state, loaders_of(rig, images, labels), rig.plan)
    before = rig.copy_of_weights()
    rig.plan.freezing.begin_epoch(rig.model, 0)
    estimate_norms(rig.state, loaders_of(rig, images, labels), rig.plan)
    assert rig.moved(before) == set()


@pytest.mark.parametrize("given", [{"freeze": "backbone"}, {"batchnorm": "frozen"}], ids=str)
def test_norms_that_rest_keep_their_statistics(catalogue: Catalogue, given: dict[str, Any]) -> None:
    rig = make_rig(catalogue, **given)
    images, labels = batch(20)
    before = rig.copy_of_weights()
    rig.train((images[:8], labels[:8]))
    estimate_norms(rig.state, loaders_of(rig, images, labels), rig.plan)
    assert rig.moved(before)
    assert not any("running" in name for name in rig.moved(before))


def test_random_weights_have_no_statistics_to_keep(catalogue: Catalogue) -> None:
    rig = make_rig(catalogue, batchnorm="frozen", pretrained=False)
    assert not rig.plan.freezing.norms_rest
    assert make_rig(
        catalogue, batchnorm="frozen", pretrained=False, weights="some.safetensors"
    ).plan.freezing.norms_rest


def test_a_single_image_changes_nothing(catalogue: Catalogue) -> None:
    rig = make_rig(catalogue)
    images, labels = batch(8)
    rig.train((images, labels))
    before = rig.copy_of_weights()
    estimate_norms(rig.state, loaders_of(rig, images[:1], labels[:1]), rig.plan)
    assert rig.moved(before) == set()


def test_a_run_stopped_while_it_validates_ends_in_the_same_bits(
    catalogue: Catalogue, tmp_path: Path, pictures: Path
) -> None:
    given: dict[str, Any] = {"model": "test_resnet", "dataset": str(pictures), "pretrained": False, "image_size": 32}
    given |= {"epochs": 3, "batch_size": 8, "augment": "light", "threads": 1}
    whole = start_run(catalogue, resolve_options(catalogue, given, None, None), tmp_path / "whole")
    stop = StopFrom(1, len(whole.record().classes))
    with pytest.raises(Interrupted):
        start_run(catalogue, resolve_options(catalogue, given, None, None), tmp_path / "run", stop)
    resumed = resume_run(catalogue, Run(tmp_path / "run"), lambda saved: saved)
    assert resumed.best_file.read_bytes() == whole.best_file.read_bytes()
    assert resumed.metrics_file.read_text().count("\n") == 3


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_small_runs_ship_what_they_learned() -> None:
    bench = runpy.run_path(str(ROOT / "bench" / "small.py"))
    gaps = bench["gaps"](bench["SIBLINGS"][:7:3])
    assert max(gap.points for gap in gaps) <= bench["LIMIT"]
    assert all(gap.batch_top1 > 0.5 for gap in gaps)
