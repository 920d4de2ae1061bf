"""A linear probe is an ordinary run whose backbone never moved."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from zoo.catalogue.made.backbone import BackboneRequest, build_backbone
from zoo.disk.weights import load_weights
from zoo.errors import Interrupted, OptionInvalid
from zoo.records.layers import resolve_options
from zoo.records.run import Run
from zoo.training.learn.freeze import check_classifier
from zoo.training.learn.probe import fit_line
from zoo.training.session import resume_run, start_run
from zoo.training.watch import Watch

from .drawn import OPTIONS, draw_dataset

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zoo.catalogue import Catalogue
    from zoo.training.learn.state import TrainState

    from ..conftest import Answer


def begin(catalogue: Catalogue, path: Path, watch: Watch | None = None, **given: Any) -> Run:
    settings = {"model": "test_resnet", "dataset": "digits", "image_size": 32, "pretrained": False, "seed": 3}
    return start_run(catalogue, resolve_options(catalogue, {**settings, **given}, "linear-probe", None), path, watch)


@pytest.fixture(scope="module")
def probed(catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return begin(catalogue, tmp_path_factory.mktemp("runs") / "probed")


def test_a_probe_learns_in_one_go(probed: Run) -> None:
    record = probed.record()
    assert record.metrics["epochs"] == 1
    assert record.metrics["test"]["top1"] > 0.8
    (epoch,) = [json.loads(line) for line in probed.metrics_file.read_text().splitlines()]
    assert epoch["train_top1"] > 0.8
    assert epoch["val_top1"] == pytest.approx(record.metrics["val"]["top1"], abs=0.02)
    assert probed.report_file.is_file()


def test_only_the_classifier_of_a_probe_has_moved(catalogue: Catalogue, probed: Run) -> None:
    torch.manual_seed(3)
    request = BackboneRequest(num_classes=10, image_size=32)
    fresh, _ = build_backbone(catalogue, catalogue.backbone("test_resnet"), request)
    shipped = load_weights(probed.best_file)
    assert {name for name, value in fresh.state_dict().items() if not value.equal(shipped[name])} == {
        "fc.weight",
        "fc.bias",
    }


def test_the_flag_is_the_recipe(cli: Callable[..., Answer]) -> None:
    found = cli("train", "tiny", "--dataset", "digits", "--probe", "--dry-run", "--json")
    assert json.loads(found.stdout)["probe"] == {"value": True, "origin": "command line"}
    found = cli("train", "tiny", "--dataset", "digits", "--recipe", "linear-probe", "--dry-run", "--json")
    assert json.loads(found.stdout)["probe"] == {"value": True, "origin": "recipe linear-probe"}


def test_a_stopped_probe_goes_on_to_the_same_bits(catalogue: Catalogue, probed: Run, tmp_path: Path) -> None:
    class StopAtThird(Watch):
        calls = 0

        def step(self, state: TrainState) -> None:
            self.calls += 1
            if self.calls == 3:
                raise Interrupted

    with pytest.raises(Interrupted):
        begin(catalogue, tmp_path / "run", StopAtThird())
    resumed = resume_run(catalogue, Run(tmp_path / "run"), lambda saved: saved)
    assert resumed.best_file.read_bytes() == probed.best_file.read_bytes()


def test_several_labels_are_probed_too(catalogue: Catalogue, tmp_path: Path) -> None:
    table = draw_dataset(tmp_path)
    given: dict[str, Any] = {"dataset": "csv", "dataset_options": {"file": str(table), **OPTIONS}, "ema_decay": 0.0}
    metrics = begin(catalogue, tmp_path / "run", **given).record().metrics
    assert metrics["test"]["map"] > 0.8
    assert metrics["best_val_map"] > 0.8


def test_a_probe_of_two_classes_is_logistic_regression() -> None:
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    features = rng.normal(size=(60, 5)) + labels[:, None]
    weight, bias = fit_line(features, labels, 2, 1.0)
    wanted = LogisticRegression(C=1.0).fit(features, labels).decision_function(features)
    logits = features @ weight.T + bias
    assert logits[:, 1] - logits[:, 0] == pytest.approx(wanted)


def test_a_label_that_all_images_have_is_always_said() -> None:
    rng = np.random.default_rng(0)
    labels = np.stack([np.ones(40), np.arange(40) % 2, np.zeros(40)], axis=1).astype(np.uint8)
    weight, bias = fit_line(rng.normal(size=(40, 5)) + labels[:, 1:2], labels, 3, 1.0)
    assert weight.shape == (3, 5)
    assert bias[0] > 5
    assert bias[2] < -5
    assert np.abs(weight[1]).max() > 0.1


def test_a_class_without_a_training_image_is_never_said() -> None:
    features = np.random.default_rng(0).normal(size=(30, 4))
    labels = np.array([0, 1, 3] * 10)
    weight, bias = fit_line(features, labels, 4, 1.0)
    assert 2 not in (features @ weight.T + bias).argmax(1)


def test_a_classifier_that_is_not_linear_cannot_be_probed(catalogue: Catalogue) -> None:
    given = {"model": "test_resnet", "dataset": "digits", "probe": True}
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1))
    model.pretrained_cfg = {"classifier": "0"}  # type: ignore[assignment]
    with pytest.raises(OptionInvalid, match="--probe fits a linear layer"):
        check_classifier(model, resolve_options(catalogue, given, None, None).config)
