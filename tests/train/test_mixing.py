"""Mixup and CutMix: the same draws for the same step, targets by share, and a stopped run ends in the same bits."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from zoo.catalogue.made.backbone import BackboneRequest, build_backbone
from zoo.errors import EnvironmentBroken, Interrupted, OptionInvalid
from zoo.records.layers import resolve_options
from zoo.records.run import Run
from zoo.training.learn.mix import Mixer, make_mixer, refuse_odd_batches
from zoo.training.learn.optimizer import make_optimizer
from zoo.training.learn.plan import make_plan
from zoo.training.learn.state import make_state
from zoo.training.learn.task import make_task
from zoo.training.machine.choose import choose
from zoo.training.machine.replica import Replica
from zoo.training.session import resume_run, start_run

from .drawn import OPTIONS, draw_dataset, mixes_labels
from .test_resume import StopAt, lines

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zoo.catalogue import Catalogue
    from zoo.records.config import Resolved, TrainConfig

    from ..conftest import Answer


def options(catalogue: Catalogue, **given: Any) -> Resolved:
    settings = {"model": "test_resnet", "dataset": "digits", "epochs": 2, "image_size": 32, "pretrained": False}
    settings |= {"augment": "light", "lr": 2e-3, "mixup": 0.3, "cutmix": 1.0, "mix_prob": 0.8}
    return resolve_options(catalogue, {**settings, **given}, None, None)


@pytest.fixture
def config(catalogue: Catalogue) -> TrainConfig:
    return options(catalogue, mix_prob=1.0, seed=7).config


def mixer(config: TrainConfig, *, multi_label: bool = False) -> Mixer:
    made = make_mixer(config, make_task(4, multi_label=multi_label))
    assert made is not None
    return made


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    return labels.float()[:, None, None, None].expand(6, 3, 16, 16).clone(), labels


def test_the_draws_belong_to_the_step(config: TrainConfig) -> None:
    found = {}
    for epoch in range(3):
        for step in range(4):
            images, target = mixer(config)(*batch(), epoch, step)
            again, _ = mixer(config)(*batch(), epoch, step)
            assert torch.equal(images, again)
            found[epoch, step] = target
    other, _ = mixer(config.model_copy(update={"seed": 8}))(*batch(), 0, 0)
    assert not torch.equal(other, mixer(config)(*batch(), 0, 0)[0])
    assert len({tuple(t.flatten().tolist()) for t in found.values()}) == len(found)


def test_the_plan_mixes_by_the_states_place(catalogue: Catalogue, config: TrainConfig) -> None:
    backbone, preprocess = build_backbone(
        catalogue, catalogue.backbone(config.model), BackboneRequest(num_classes=4, image_size=32)
    )
    state = make_state(Replica(backbone), make_optimizer(backbone, config))
    task = make_task(4, multi_label=False)
    plan = make_plan(config, choose(config), preprocess, state.optimizer, 5, task)
    for state.epoch, state.step in ((0, 0), (1, 0), (1, 3)):
        wanted = mixer(config)(*batch(), state.epoch, state.step)
        assert all(torch.equal(*pair) for pair in zip(plan.mix(*batch(), state), wanted, strict=True))
    plain = make_plan(
        config.model_copy(update={"mixup": 0.0, "cutmix": 0.0}), choose(config), preprocess, state.optimizer, 5, task
    )
    assert all(torch.equal(*pair) for pair in zip(plain.mix(*batch(), state), batch(), strict=True))


def test_numpys_own_random_state_is_left_as_it_was(config: TrainConfig) -> None:
    np.random.seed(3)
    wanted = np.random.rand(2)
    np.random.seed(3)
    first = np.random.rand()
    mixer(config)(*batch(), 0, 0)
    assert [first, np.random.rand()] == wanted.tolist()


def test_labels_are_mixed_by_their_share_of_the_picture(config: TrainConfig) -> None:
    for given in ({"cutmix": 0.0}, {"mixup": 0.0}):
        for step in range(20):
            images, target = mixer(config.model_copy(update=given))(*batch(), 0, step)
            assert torch.allclose(target.sum(1), torch.ones(6))
            # The pixels are their labels here, so the mean of a picture is that of its labels.
            assert torch.allclose(images.mean((1, 2, 3)), target @ torch.arange(4.0), atol=1e-5)


@mixes_labels
def test_label_vectors_are_mixed_as_well(config: TrainConfig) -> None:
    vectors = torch.tensor([[1.0, 1, 0, 0], [0, 0, 0, 0]])
    _, target = mixer(config, multi_label=True)(torch.rand(2, 3, 8, 8), vectors, 0, 1)
    share = float(target[0, 0])
    assert 0 < share < 1
    assert torch.allclose(target, torch.tensor([[share, share, 0, 0], [1 - share, 1 - share, 0, 0]]))


def test_a_timm_that_cannot_mix_label_vectors_is_told(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    class Older:
        def __init__(self, **given: Any) -> None:
            pytest.fail("it was made all the same")

        __signature__ = inspect.Signature([inspect.Parameter("mixup_alpha", inspect.Parameter.KEYWORD_ONLY)])

    monkeypatch.setattr("timm.data.Mixup", Older)
    with pytest.raises(EnvironmentBroken, match=r"need timm 1\.0\.31"):
        mixer(config, multi_label=True)


def test_smoothing_and_weights_are_applied_once() -> None:
    weights, logits = torch.tensor([1.0, 2.0, 0.5, 1.0]), torch.randn(6, 4)
    share = 0.7
    hard = torch.eye(4)[batch()[1]]
    target = share * hard + (1 - share) * hard.flip(0)
    loss = make_task(4, multi_label=False, smoothing=0.1, weights=weights).loss(logits, target)
    smooth = target * 0.9 + 0.1 / 4
    assert torch.allclose(loss, -(smooth * weights * logits.log_softmax(1)).sum(1).mean())


@pytest.mark.parametrize(("share", "right"), [(0.7, True), (0.3, False)])
def test_a_mixed_image_counts_for_its_dominant_label(share: float, right: bool) -> None:
    one = make_task(3, multi_label=False)
    logits = torch.tensor([[5.0, 0.0, -5.0]])
    assert bool(one.right(logits, torch.tensor([[share, 1 - share, 0.0]]))) is right
    several = make_task(3, multi_label=True)
    said = torch.tensor([[5.0, 5.0, -5.0]])
    # Both images have the first label, the second belongs to the one, the third to the other.
    assert bool(several.right(said, torch.tensor([[1.0, share, 1 - share]]))) is right


def test_odd_batches_are_refused_at_the_start(cli: Callable[..., Answer], catalogue: Catalogue) -> None:
    command = ["train", "test_resnet", "--dataset", "digits", "--no-pretrained", "--mixup", 0.2, "--batch-size", 33]
    for extra in ([], ["--dry-run"]):
        answer = cli(*command, *extra)
        assert answer.code == 1
        assert "33 is odd; use --batch-size 32" in answer.error
    refuse_odd_batches(options(catalogue, mixup=0, cutmix=0).config, 33)


def test_a_small_dataset_that_makes_an_odd_batch_is_refused(catalogue: Catalogue, tmp_path: Path) -> None:
    table = draw_dataset(tmp_path, count=18)
    lines = [line for line in table.read_text().splitlines() if not line.startswith("17.png")]
    table.write_text("\n".join(lines))
    given = {"dataset": "csv", "dataset_options": {"file": str(table), **OPTIONS}}
    with pytest.raises(OptionInvalid, match=r"11 is odd; use --batch-size 10"):
        start_run(catalogue, options(catalogue, **given), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_dataset(tmp_path_factory.mktemp("marks"), count=200)


@pytest.mark.parametrize(
    "kind", [pytest.param("one label", marks=pytest.mark.slow), pytest.param("several labels", marks=mixes_labels)]
)
def test_a_stopped_run_ends_in_the_same_bits(catalogue: Catalogue, tmp_path: Path, table: Path, kind: str) -> None:
    given: dict[str, Any] = {"class_weights": "balanced", "ema_decay": 0.95}
    if kind == "several labels":
        given |= {"dataset": "csv", "dataset_options": {"file": str(table), **OPTIONS}, "batch_size": 16}
    resolved = options(catalogue, **given)
    whole = start_run(catalogue, resolved, tmp_path / "whole")
    with pytest.raises(Interrupted):
        start_run(catalogue, resolved, tmp_path / "stopped", StopAt(1, 3))
    np.random.seed(99)
    torch.manual_seed(99)
    resumed = resume_run(catalogue, Run(tmp_path / "stopped"), lambda saved: saved)
    assert resumed.best_file.read_bytes() == whole.best_file.read_bytes()
    assert lines(resumed) == lines(whole)
    for key in ("metrics", "thresholds", "class_weights"):
        assert getattr(resumed.record(), key) == getattr(whole.record(), key)


@pytest.mark.slow
def test_mixing_changes_what_is_learned(catalogue: Catalogue, tmp_path: Path) -> None:
    runs = {
        name: start_run(catalogue, options(catalogue, epochs=1, mixup=mixup, cutmix=cutmix), tmp_path / name)
        for name, mixup, cutmix in (("plain", 0, 0), ("mixup", 0.3, 0), ("cutmix", 0, 1.0), ("both", 0.3, 1.0))
    }
    assert len({run.best_file.read_bytes() for run in runs.values()}) == 4


def test_a_resume_needs_no_file_of_weights(
    cli: Callable[..., Answer], catalogue: Catalogue, tmp_path: Path, table: Path
) -> None:
    file = tmp_path / "weights.json"
    file.write_text(json.dumps({"red": 1, "bar": 2, "dot": 4}))
    given: dict[str, Any] = {"dataset": "csv", "dataset_options": {"file": str(table), **OPTIONS}, "batch_size": 16}
    resolved = options(catalogue, **given, mixup=0, cutmix=0, class_weights=str(file))
    with pytest.raises(Interrupted):
        start_run(catalogue, resolved, tmp_path / "stopped", StopAt(1, 2))
    file.unlink()
    # The same file, named from the folder that `cli` works in.
    answer = cli("train", "--resume", "--runs", ".", "--class-weights", file.name)
    assert answer.code == 0, answer.stderr
    record = Run(tmp_path / "stopped").record()
    assert record.class_weights == {"red": 1, "bar": 2, "dot": 4}
    assert record.config["class_weights"] == str(file)
