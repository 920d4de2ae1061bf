"""Progressive resizing: early epochs see small images, the last ones those that are shipped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from zoo.errors import OptionInvalid
from zoo.training.learn.resize import Growth, check_growth

from .rig import batch, make_rig

if TYPE_CHECKING:
    from typing import Any

    from zoo.catalogue import Catalogue


def test_sides_grow_in_steps_of_32() -> None:
    growth = Growth(full=(224, 224), start=128, epochs=6)
    sizes = [growth.size(epoch)[0] for epoch in range(8)]
    assert sizes == [128, 128, 160, 192, 192, 192, 224, 224]
    assert [Growth(full=(100, 200), start=50, epochs=2).size(epoch) for epoch in range(3)] == [
        (64, 96),
        (64, 160),
        (100, 200),
    ]


def test_the_default_is_the_full_size_and_the_same_pixels() -> None:
    images = torch.rand(2, 3, 64, 64)
    assert Growth(full=(64, 64), start=0, epochs=8)(images, 0) is images


@pytest.mark.parametrize(("epoch", "side"), [(0, 32), (3, 64)])
def test_a_step_sees_images_of_its_epochs_size(catalogue: Catalogue, epoch: int, side: int) -> None:
    rig = make_rig(catalogue, size=64, image_size_start=32, image_size_growth=0.5)
    seen: list[tuple[int, ...]] = []

    def note(_: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        seen.append(tuple(inputs[0].shape))

    rig.model.register_forward_pre_hook(note)
    rig.state.epoch = epoch
    rig.train(batch(size=64))
    assert seen == [(8, 3, side, side)]


def test_a_start_that_is_no_smaller_is_refused(catalogue: Catalogue) -> None:
    with pytest.raises(OptionInvalid, match="smaller than the 32"):
        check_growth(make_rig(catalogue).model, Growth(full=(32, 32), start=64, epochs=1))


def test_a_model_of_one_size_is_refused(catalogue: Catalogue) -> None:
    rig = make_rig(catalogue, model="vit_tiny_patch16_224", size=64)
    with pytest.raises(OptionInvalid, match="cannot take 32 x 32"):
        check_growth(rig.model, Growth(full=(64, 64), start=32, epochs=1))
    check_growth(make_rig(catalogue, size=64).model, Growth(full=(64, 64), start=32, epochs=1))
