"""Rounding while training: the exporter's own grid, straight-through gradients, plain weights in the run."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import timm
import torch
from torch.nn.utils.fusion import fuse_conv_bn_eval

from zoo.contracts.shipped import Normalise
from zoo.data.loader import evaluation_batches
from zoo.disk.weights import load_weights, save_weights
from zoo.errors import Interrupted
from zoo.records.layers import resolve_options
from zoo.records.run import Run
from zoo.records.trained import load_trained, shipped_model
from zoo.training.learn.qat import RANGE, RoundedInput, plain_weights, rounded_weight, with_rounding
from zoo.training.session import resume_run, start_run
from zoo.training.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zoo.catalogue import Catalogue
    from zoo.training.learn.state import TrainState

    from ..conftest import Answer

SETTINGS: dict[str, Any] = {"model": "test_resnet", "dataset": "digits", "epochs": 4, "image_size": 32}
SETTINGS |= {"pretrained": False, "augment": "light", "lr": 4e-3, "warmup_epochs": 0, "ema_decay": 0.9}
SMALL = ("test_resnet", "test_vit", "test_efficientnet", "test_convnext", "test_mambaout", "test_nfnet")


class StopAt(Watch):
    """Asks to stop once, after a given step of a given epoch."""

    def __init__(self, *place: int) -> None:
        self.place = place

    def step(self, state: TrainState) -> None:
        if (state.epoch, state.step) == self.place:
            self.place = ()
            raise Interrupted


@pytest.fixture(scope="module")
def first(catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run to go on from; not to be changed."""
    path = tmp_path_factory.mktemp("runs") / "first"
    return start_run(catalogue, resolve_options(catalogue, SETTINGS, None, None), path)


def go_on(catalogue: Catalogue, parent: Run, path: Path, watch: Watch | None = None, **given: Any) -> Run:
    given = {"parent": str(parent.path), "qat": True, "device": "cpu", **given}
    return start_run(catalogue, resolve_options(catalogue, given, None, None), path, watch)


@pytest.fixture(scope="module")
def second(catalogue: Catalogue, first: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run that went on from it, rounding."""
    return go_on(catalogue, first, tmp_path_factory.mktemp("runs") / "second")


def test_weights_lie_on_the_grid_of_their_channel_and_gradients_pass() -> None:
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1, 10, 0.1, 0]).view(
        4, 1, 1, 1
    )
    weight.requires_grad_()
    rounded = rounded_weight(weight)
    plain = weight.detach().numpy()
    scale = np.abs(plain).reshape(4, -1).max(1).reshape(4, 1, 1, 1) / 127
    wanted = np.round(plain / np.maximum(scale, 1e-9)).clip(-127, 127) * scale
    np.testing.assert_allclose(rounded.detach().numpy(), wanted, atol=1e-6)
    rounded.sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert weight.grad.eq(1).all()


def test_rounding_before_a_norm_is_folded_in_is_rounding_after() -> None:
    torch.manual_seed(0)
    conv, norm = torch.nn.Conv2d(3, 8, 3, bias=False).eval(), torch.nn.BatchNorm2d(8).eval()
    torch.nn.init.normal_(norm.weight)
    norm.running_var.copy_(torch.rand(8) + 0.1)  # type: ignore[union-attr]
    after = rounded_weight(fuse_conv_bn_eval(conv, norm).weight)
    conv.weight.data = rounded_weight(conv.weight).detach()
    torch.testing.assert_close(fuse_conv_bn_eval(conv, norm).weight, after)


def test_a_range_follows_the_batches_and_then_stands_still() -> None:
    part = RoundedInput(2, torch.device("cpu"))
    batches = [torch.tensor([-1.0, 0.3, 3.0]), torch.tensor([-2.0, 0.0, 5.0]), torch.tensor([-90.0, 0.0, 90.0])]
    part(batches[0])
    assert [float(part.low), float(part.high)] == [-1.0, 3.0]
    for values in batches[1:]:
        part(values)
    assert [float(part.low), float(part.high)] == pytest.approx([-1.05, 3.1])
    part.eval()(batches[2] * 9)
    assert int(part.seen) == 3


def test_an_input_gets_256_values_with_zero_among_them() -> None:
    part = RoundedInput(9, torch.device("cpu"))
    part(torch.tensor([0.5, 6.0]))
    values = torch.linspace(-2, 8, 5001).requires_grad_()
    rounded = part.eval()(values)
    found = rounded.detach().unique()
    assert len(found) == 256
    assert float(found.min()) == 0.0
    assert float(found.max()) == pytest.approx(6.0)
    rounded.sum().backward()
    assert values.grad is not None
    inside = (values.detach() > 0.02) & (values.detach() < 5.98)
    assert values.grad[inside].eq(1).all()
    assert values.grad[(values.detach() < -0.02) | (values.detach() > 6.02)].eq(0).all()


@pytest.mark.parametrize("name", SMALL)
def test_any_family_computes_nearly_the_same_under_the_same_names(name: str) -> None:
    torch.manual_seed(0)
    model: Any = timm.create_model(name, num_classes=4)
    rounding = with_rounding(model, 4).train()
    images = torch.randn(4, 3, *model.pretrained_cfg["input_size"][1:])
    rounding(images).sum().backward()
    assert all(parameter.grad is not None for parameter in rounding.parameters())
    assert dict(rounding.named_parameters()).keys() == dict(model.named_parameters()).keys()
    copied = copy.deepcopy(rounding).eval()
    model.load_state_dict(plain_weights(rounding.state_dict()))
    with torch.no_grad():
        found, wanted = rounding.eval()(images), model.eval()(images)
        assert copied(images).equal(found)
    assert not found.equal(wanted)
    torch.testing.assert_close(found, wanted, atol=0.2 * float(wanted.abs().max()), rtol=0)


def test_weights_that_a_layer_makes_anew_are_left_to_it() -> None:
    model = timm.create_model("test_nfnet", num_classes=4)
    rounding = with_rounding(model, 4)
    before = dict(model.named_modules())
    made = [name for name, part in before.items() if "Std" in type(part).__name__]
    assert made
    parts = dict(rounding.named_modules())
    assert all(parts[name].weight.equal(before[name].weight) and hasattr(parts[name], RANGE) for name in made)
    assert not parts["head.fc"].weight.equal(before["head.fc"].weight)


def test_its_best_weights_are_plain_and_say_where_they_come_from(catalogue: Catalogue, first: Run, second: Run) -> None:
    before, after = load_weights(first.best_file), load_weights(second.best_file)
    assert before.keys() == after.keys()
    shipped_model(catalogue, second)
    weights = after["layer1.0.conv1.weight"]
    assert not weights.equal(before["layer1.0.conv1.weight"])
    assert not weights.equal(rounded_weight(weights))
    # Norms are folded as they are by the exporter: their statistics stay those of the first run.
    statistics = [name for name in before if "running_" in name]
    assert statistics
    assert all(before[name].equal(after[name]) for name in statistics)
    record = second.record()
    assert record.parent["run"] == str(first.path.resolve())
    assert record.config["qat"] is True
    assert record.origins["lr"] == "--from"


def test_the_best_epoch_is_the_best_while_rounding(catalogue: Catalogue, second: Run) -> None:
    trained = load_trained(catalogue, second)
    payload = torch.load(second.checkpoint_file, weights_only=True)
    model = with_rounding(shipped_model(catalogue, second)[1], 1)
    model.load_state_dict(payload["ema"])
    normalise = Normalise(trained.preprocess.mean, trained.preprocess.std)
    images, labels = zip(*evaluation_batches(trained.data.splits["val"], trained.preprocess), strict=True)
    with torch.no_grad():
        logits = torch.cat([model.eval()(normalise(torch.from_numpy(batch))) for batch in images])
    target = torch.from_numpy(np.concatenate(labels))
    told = json.loads(second.metrics_file.read_text().splitlines()[-1])
    assert float(torch.nn.functional.cross_entropy(logits, target)) == pytest.approx(told["val_loss"], abs=1e-4)


@pytest.mark.parametrize("place", [(0, 7), (1, 2)], ids=str)
def test_a_resumed_run_ends_in_the_same_bits(
    catalogue: Catalogue, first: Run, second: Run, tmp_path: Path, place: tuple[int, int]
) -> None:
    with pytest.raises(Interrupted):
        go_on(catalogue, first, tmp_path / "stopped", StopAt(*place))
    resumed = resume_run(catalogue, Run(tmp_path / "stopped"), lambda saved: saved)
    assert resumed.best_file.read_bytes() == second.best_file.read_bytes()
    assert resumed.metrics_file.read_bytes() == second.metrics_file.read_bytes()
    assert resumed.record().parent == second.record().parent


def test_a_network_that_rounding_ruins_learns_to_bear_it(catalogue: Catalogue, first: Run, tmp_path: Path) -> None:
    # One channel so large that the others get a handful of values; the next layer takes it down again.
    weights = load_weights(first.best_file)
    for name in ("conv1.1.weight", "conv1.1.bias"):
        weights[name][0] *= 100
    weights["conv1.3.weight"][:, 0] /= 100
    broken = Run(tmp_path / "broken")
    broken.path.mkdir()
    broken.record_file.write_text(first.record_file.read_text())
    save_weights(broken.best_file, weights)
    stuck = go_on(catalogue, broken, tmp_path / "stuck", lr=1e-12, epochs=1)
    healed = go_on(catalogue, broken, tmp_path / "healed")
    losses = [json.loads(run.metrics_file.read_text().splitlines()[-1])["val_loss"] for run in (stuck, healed)]
    assert losses[1] < 0.5 * losses[0]


def test_what_does_not_go_with_rounding_is_told_in_one_line(cli: Callable[..., Answer], first: Run) -> None:
    answer = cli("train", "test_resnet", "--dataset", "digits", "--qat", "--no-pretrained")
    assert answer.code == 1
    assert "--from RUN" in answer.error
    assert "--probe" in cli("train", "--from", first.path, "--qat", "--probe").error
