"""Frozen weights do not move, and move once they may; what drops, drops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from zoo.errors import OptionInvalid
from zoo.training.learn.freeze import classifier_of

from .rig import batch, make_rig

if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo.catalogue import Catalogue

    from ..conftest import Answer

ALWAYS_SAME: dict[str, Any] = {"optimizer": "sgd", "lr": 0.1, "schedule": "constant", "warmup_epochs": 0}


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lion"])
def test_a_frozen_backbone_rests_until_its_epoch(catalogue: Catalogue, optimizer: str) -> None:
    options = {**ALWAYS_SAME, "optimizer": optimizer, "weight_decay": 0.5}
    rig = make_rig(catalogue, freeze="backbone", unfreeze_epoch=1, **options)
    before = rig.copy_of_weights()
    rig.train(batch(seed=1), batch(seed=2))
    assert rig.moved(before) == rig.classifier()
    rig.state.epoch, rig.state.step = 1, 0
    between = rig.copy_of_weights()
    rig.train(batch(seed=3), batch(seed=4))
    moved = rig.moved(between)
    assert {name for name, parameter in rig.model.named_parameters() if parameter.ndim > 1} <= moved
    assert {name for name in before if name.endswith("running_mean")} <= moved


def test_without_an_epoch_it_rests_for_good(catalogue: Catalogue) -> None:
    rig = make_rig(catalogue, freeze="backbone", **ALWAYS_SAME)
    before = rig.copy_of_weights()
    rig.state.epoch = 3
    rig.train(batch())
    assert rig.moved(before) == rig.classifier()


def test_without_freezing_everything_moves(catalogue: Catalogue) -> None:
    rig = make_rig(catalogue, **ALWAYS_SAME)
    before = rig.copy_of_weights()
    rig.train(batch())
    assert {name for name, parameter in rig.model.named_parameters() if parameter.ndim > 1} <= rig.moved(before)


@pytest.mark.parametrize("model", ["test_vit", "test_efficientnet", "test_convnext", "mobilenetv3_small_050"])
def test_any_family_tells_its_classifier(catalogue: Catalogue, model: str) -> None:
    rig = make_rig(catalogue, model=model, freeze="backbone", **ALWAYS_SAME)
    before = rig.copy_of_weights()
    rig.train(batch())
    assert rig.moved(before) == rig.classifier()
    head = classifier_of(rig.model)
    assert isinstance(head, torch.nn.Linear)
    assert sum(before[name].numel() for name in rig.classifier()) == 4 * head.in_features + 4


def test_a_model_that_does_not_tell_its_classifier_is_refused() -> None:
    with pytest.raises(OptionInvalid, match="leave --freeze and --probe out"):
        classifier_of(torch.nn.Sequential(torch.nn.Linear(2, 2)))


def test_when_to_unfreeze_is_no_use_alone(cli: Callable[..., Answer]) -> None:
    answer = cli("train", "tiny", "--dataset", "digits", "--unfreeze-epoch", 2, "--dry-run")
    assert answer.code == 1
    assert "--freeze backbone" in answer.error


def test_dropping_reaches_the_backbone(catalogue: Catalogue) -> None:
    from timm.layers import DropPath

    plain = make_rig(catalogue)
    dropping = make_rig(catalogue, drop_rate=0.25, drop_path_rate=0.5)
    assert [getattr(rig.model, "drop_rate", None) for rig in (plain, dropping)] == [0.0, 0.25]
    rates = [module.drop_prob for module in dropping.model.modules() if isinstance(module, DropPath)]
    assert max(rates) == pytest.approx(0.5)
    assert not any(isinstance(module, DropPath) and module.drop_prob for module in plain.model.modules())


def test_a_backbones_own_option_goes_before(catalogue: Catalogue) -> None:
    rig = make_rig(catalogue, drop_rate=0.25, backbone_options={"drop_rate": 0.5})
    assert getattr(rig.model, "drop_rate", None) == 0.5


def test_a_backbone_that_cannot_drop_says_so_in_one_line(cli: Callable[..., Answer]) -> None:
    command = ["train", "vgg11", "--dataset", "digits", "--no-pretrained", "--image-size", 32]
    answer = cli(*command, "--drop-path-rate", 0.1)
    assert answer.code == 1
    assert "drop_path_rate" in answer.error
