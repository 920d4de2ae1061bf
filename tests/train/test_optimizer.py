"""The optimizer, its groups and its gradients do what the options say."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from zoo.errors import OptionInvalid
from zoo.records.config import TrainConfig
from zoo.training.learn.optimizer import check_optimizer, make_optimizer

from .rig import batch, make_rig

if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo.catalogue import Catalogue

    from ..conftest import Answer


@pytest.mark.parametrize(
    ("name", "kind"),
    [("adamw", "AdamW"), ("sgd", "SGD"), ("adam", "Adam"), ("rmsprop", "RMSprop"), ("lion", "Lion"), ("lamb", "Lamb")],
)
def test_an_optimizer_has_its_name_in_timm(catalogue: Catalogue, name: str, kind: str) -> None:
    rig = make_rig(catalogue, optimizer=name, warmup_epochs=0)
    before = rig.copy_of_weights()
    rig.train(batch())
    assert type(rig.state.optimizer).__name__ == kind
    assert rig.classifier() <= rig.moved(before)


def test_an_unknown_optimizer_is_told_before_anything_is_prepared(cli: Callable[..., Answer]) -> None:
    answer = cli("train", "tiny", "--dataset", "digits", "--optimizer", "adanw2", "--dry-run")
    assert answer.code == 1
    assert "adanw" in answer.error
    assert "did you mean" in answer.error


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"optimizer": "adahessian"}, "second derivatives"),
        ({"optimizer": "nonsense"}, "adamw, sgd"),
        ({"optimizer": "sgd", "betas": (0.9, 0.95)}, "betas = 0.9,0.95: --optimizer sgd has none"),
        ({"optimizer": "rmsprop", "betas": (0.9, 0.95)}, "--optimizer rmsprop has none"),
        ({"optimizer": "adan", "betas": (0.9, 0.95)}, "--optimizer adan has 3"),
        ({"betas": (0.9,)}, "--optimizer adamw has 2"),
        ({"optimizer": "lion", "opt_eps": 1e-6}, "opt_eps = 1e-06: --optimizer lion has none"),
    ],
    ids=str,
)
def test_an_optimizer_that_cannot_work_is_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(OptionInvalid, match=why):
        check_optimizer(TrainConfig(model="-", dataset="-", **options))


def test_an_optimizer_that_needs_what_is_not_here_is_told_in_one_line(catalogue: Catalogue) -> None:
    if torch.cuda.is_available():
        pytest.skip("here it may work")
    with pytest.raises(OptionInvalid, match="--optimizer fusedlamb cannot be used here"):
        make_rig(catalogue, optimizer="fusedlamb")


@pytest.mark.parametrize("name", ["sgd", "rmsprop"])
def test_momentum_is_that_of_the_optimizer(catalogue: Catalogue, name: str) -> None:
    groups = make_rig(catalogue, optimizer=name, momentum=0.7).state.optimizer.param_groups
    assert {group["momentum"] for group in groups} == {0.7}


@pytest.mark.parametrize("name", ["adamw", "adam", "lamb", "muon"])
def test_betas_and_eps_are_the_optimizers_own_unless_set(catalogue: Catalogue, name: str) -> None:
    own = make_rig(catalogue, optimizer=name).state.optimizer.param_groups[0]
    given = make_rig(catalogue, optimizer=name, betas=(0.8, 0.85), opt_eps=1e-3).state.optimizer.param_groups[0]
    assert (tuple(given["betas"]), given["eps"]) == ((0.8, 0.85), 1e-3)
    assert tuple(own["betas"]) not in ((), (0.8, 0.85))
    assert 0 < own["eps"] < 1e-3


def test_betas_and_eps_change_what_a_step_does(catalogue: Catalogue) -> None:
    plain, *others = (make_rig(catalogue, **options) for options in ({}, {"betas": (0.5, 0.6)}, {"opt_eps": 0.1}))
    for rig in (plain, *others):
        rig.train(batch(), batch(seed=1))
    assert all(rig.moved(plain.copy_of_weights()) for rig in others)


def test_betas_are_read_from_the_command_line_and_from_a_file(cli: Callable[..., Answer]) -> None:
    Path("more.toml").write_text("betas = [0.9, 0.95]\nopt_eps = 1e-6\n")
    command = ["train", "tiny", "--dataset", "digits", "--dry-run", "--json"]
    found = json.loads(cli(*command, "--config", "more.toml").stdout)
    assert found["betas"] == {"value": [0.9, 0.95], "origin": "more.toml"}
    assert found["opt_eps"] == {"value": 1e-6, "origin": "more.toml"}
    told = json.loads(cli(*command, "--set", "betas=0.8, 0.85", "--set", "opt_eps=0.001").stdout)
    assert [told[name]["value"] for name in ("betas", "opt_eps")] == [[0.8, 0.85], 1e-3]
    for wrong in ("betas=0.9,1.5", "betas=much", "opt_eps=-1"):
        assert wrong.partition("=")[0] in cli(*command, "--set", wrong).error


@pytest.mark.parametrize("options", [{"optimizer": "lion"}, {"optimizer": "sgd"}, {"layer_decay": 0.5}], ids=str)
def test_weight_decay_spares_norms_and_biases(catalogue: Catalogue, options: dict[str, Any]) -> None:
    rig = make_rig(catalogue, weight_decay=0.3, **options)
    decay = {id(p): group["weight_decay"] for group in rig.state.optimizer.param_groups for p in group["params"]}
    assert {decay[id(p)] for p in rig.model.parameters() if p.ndim > 1} == {0.3}
    assert {decay[id(p)] for p in rig.model.parameters() if p.ndim <= 1} == {0.0}
    assert len(decay) == len(list(rig.model.parameters()))


def test_the_learning_rate_falls_from_layer_to_layer(catalogue: Catalogue) -> None:
    rig = make_rig(catalogue, layer_decay=0.5, lr=0.8, schedule="constant", warmup_epochs=0)
    rig.plan.set_learning_rates(rig.state)
    names = {id(parameter): name for name, parameter in rig.model.named_parameters()}
    rates = {names[id(p)]: group["lr"] for group in rig.state.optimizer.param_groups for p in group["params"]}
    assert rates["fc.weight"] == pytest.approx(0.8)
    blocks = [rates[f"layer{number}.0.conv1.weight"] for number in (1, 2, 3, 4)]
    assert [high / low for low, high in itertools.pairwise(blocks)] == pytest.approx([2.0] * 3)
    assert rates["conv1.0.weight"] < blocks[0]


def test_a_run_tells_the_rate_of_its_classifier(catalogue: Catalogue) -> None:
    rig = make_rig(catalogue, layer_decay=0.5, lr=0.8, schedule="constant", warmup_epochs=0)
    rig.plan.set_learning_rates(rig.state)
    assert max(group["lr"] for group in rig.state.optimizer.param_groups) == pytest.approx(0.8)


def test_layers_that_nobody_can_tell_apart_are_refused(catalogue: Catalogue) -> None:
    config = make_rig(catalogue).config.model_copy(update={"layer_decay": 0.5})
    with pytest.raises(OptionInvalid, match="cannot tell the layers"):
        make_optimizer(torch.nn.Sequential(torch.nn.Linear(2, 2)), config)


@pytest.mark.parametrize("mode", ["norm", "value", "agc"])
def test_gradients_are_clipped_as_the_mode_says(catalogue: Catalogue, mode: str) -> None:
    rig = make_rig(catalogue, clip_grad=0.01, clip_mode=mode)
    for parameter in rig.model.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    rig.plan.clip(rig.model)
    grads = {name: p.grad for name, p in rig.model.named_parameters() if p.grad is not None}
    norm = torch.cat([grad.flatten() for grad in grads.values()]).norm()
    if mode == "norm":
        assert norm == pytest.approx(0.01, rel=1e-4)
    elif mode == "value":
        assert max(float(grad.abs().max()) for grad in grads.values()) == pytest.approx(0.01)
    else:
        weight = rig.model.get_parameter("layer1.0.conv1.weight")
        share = grads["layer1.0.conv1.weight"].flatten(1).norm(dim=1) / weight.flatten(1).norm(dim=1)
        assert share.tolist() == pytest.approx([0.01] * len(share), rel=1e-3)
        assert (grads["fc.weight"] == 3).all()


def test_clipping_changes_a_step(catalogue: Catalogue) -> None:
    plain, clipped = (make_rig(catalogue, optimizer="sgd", clip_grad=limit) for limit in (0.0, 1e-4))
    for rig in (plain, clipped):
        rig.train(batch(), batch(seed=1))
    assert clipped.moved(plain.copy_of_weights())


def test_two_half_batches_are_one(catalogue: Catalogue) -> None:
    # Without batch norm, which sees halves where the whole should be.
    options: dict[str, Any] = {"model": "test_convnext", "ema_decay": 0.9, "optimizer": "sgd", "lr": 0.1}
    whole = make_rig(catalogue, steps=2, **options)
    halves = make_rig(catalogue, steps=4, accumulate=2, **options)
    before = whole.copy_of_weights()
    images, labels = batch(32)
    whole.train((images[:16], labels[:16]), (images[16:], labels[16:]))
    halves.train(*((images[i : i + 8], labels[i : i + 8]) for i in (0, 8, 16, 24)))
    assert whole.moved(before)
    for one, other in zip(whole.model.parameters(), halves.model.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    assert whole.state.ema is not None
    assert halves.state.ema is not None
    for one, other in zip(whole.state.ema.parameters(), halves.state.ema.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_a_last_incomplete_group_counts_in_full(catalogue: Catalogue) -> None:
    options: dict[str, Any] = {
        "model": "test_convnext",
        "optimizer": "momentum",
        "momentum": 0.0,
        "lr": 0.1,
        "schedule": "constant",
    }
    grouped = make_rig(catalogue, steps=3, accumulate=2, warmup_epochs=0, **options)
    grouped.train(batch(seed=1), batch(seed=2))
    plain = make_rig(catalogue, steps=1, warmup_epochs=0, **options)
    plain.model.load_state_dict(grouped.model.state_dict())
    grouped.train(batch(seed=3))
    plain.train(batch(seed=3))
    for one, other in zip(grouped.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_weights_rest_within_a_group(catalogue: Catalogue) -> None:
    rig = make_rig(catalogue, steps=4, accumulate=3, model="test_convnext")
    before = rig.copy_of_weights()
    rig.train(batch(seed=1), batch(seed=2))
    assert not rig.moved(before)
    assert rig.plan.updates(rig.state) == 0
    rig.train(batch(seed=3))
    assert rig.moved(before)
    assert rig.plan.updates(rig.state) == 1


def test_the_average_follows_each_step(catalogue: Catalogue) -> None:
    rig = make_rig(catalogue, ema_decay=0.5)
    assert rig.state.ema is not None
    rig.state.epoch = 1000  # behind its warm-up, in which the decay is smaller
    before = {name: value.clone() for name, value in rig.state.ema.module.named_parameters()}
    rig.train(batch())
    for name, value in rig.model.named_parameters():
        shadow = rig.state.ema.module.get_parameter(name)
        assert torch.allclose(shadow, 0.5 * before[name] + 0.5 * value, atol=1e-6)


def test_every_option_of_training_is_told_with_its_origin(cli: Callable[..., Answer]) -> None:
    flags = {
        "optimizer": "lion",
        "schedule": "step",
        "weight_decay": 0.2,
        "layer_decay": 0.7,
        "freeze": "backbone",
        "unfreeze_epoch": 2,
        "drop_rate": 0.1,
        "drop_path_rate": 0.2,
        "loss": "focal",
        "label_smoothing": 0.2,
        "ema_decay": 0.5,
        "clip_grad": 1.0,
        "accumulate": 2,
        "monitor": "macro_f1",
        "patience": 3,
    }
    given = [word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", value)]
    answer = cli("train", "tiny", "--dataset", "digits", *given, "--set", "clip_mode=agc", "--dry-run", "--json")
    found = json.loads(answer.stdout)
    for name, value in {**flags, "clip_mode": "agc"}.items():
        assert found[name] == {"value": value, "origin": "command line"}
    assert {"momentum", "decay_epochs", "decay_rate", "probe"} <= found.keys()
    assert np.isclose(found["momentum"]["value"], 0.9)
