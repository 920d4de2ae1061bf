"""Training is right: four families on a folder of JPEG files, options that do what they say, weights that load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from zoo.catalogue.made.backbone import BackboneRequest, build_backbone
from zoo.records.layers import resolve_options
from zoo.training.learn.optimizer import make_optimizer
from zoo.training.learn.plan import make_plan
from zoo.training.learn.state import make_average, make_state
from zoo.training.learn.task import make_task
from zoo.training.machine.choose import choose
from zoo.training.machine.replica import Replica

if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo.catalogue import Catalogue
    from zoo.contracts.preprocess import Preprocess
    from zoo.records.config import TrainConfig
    from zoo.records.run import Run

    from ..conftest import Answer

    Pieces = Callable[..., tuple[TrainConfig, torch.nn.Module, Preprocess]]

FAMILIES = ["resnet50", "mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224"]


@pytest.mark.parametrize("model", FAMILIES)
def test_any_family_trains_on_a_folder_of_pictures(cli: Callable[..., Answer], pictures: Path, model: str) -> None:
    command = ["train", model, "--dataset", pictures, "--no-pretrained", "--epochs", 1, "--image-size", 64]
    answer = cli(*command, "--batch-size", 8, "--name", model, "--json")
    assert answer.code == 0, answer.stderr
    record = json.loads(answer.stdout)
    assert record["classes"] == ["class0", "class1", "class2"]
    assert record["preprocess"]["size"] == [64, 64]
    assert set(record["metrics"]["test"]["per_class"]) == {"class0", "class1", "class2"}
    assert Path("runs", model, "best.safetensors").is_file()


def test_a_run_finds_its_pictures_again_from_another_folder(
    cli: Callable[..., Answer], pictures: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(pictures.parent)
    command = ["train", "test_resnet", "--dataset", f"./{pictures.name}", "--no-pretrained", "--epochs", 1]
    assert cli(*command, "--image-size", 32, "--batch-size", 8, "--runs", tmp_path / "runs", "--name", "n").code == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    answer = cli("eval", tmp_path / "runs" / "n", "--json")
    assert answer.code == 0, answer.stderr
    record = json.loads((tmp_path / "runs" / "n" / "run.json").read_text())
    assert json.loads(answer.stdout)["images"] == record["dataset_sizes"]["test"]


def test_a_run_learns(trained_run: Run) -> None:
    epochs = [json.loads(line) for line in trained_run.metrics_file.read_text().splitlines()]
    assert epochs[-1]["train_loss"] < epochs[0]["train_loss"]
    assert trained_run.record().metrics["test"]["top1"] > 0.9


def test_the_record_has_the_keys_that_outsiders_read(trained_run: Run) -> None:
    record = json.loads(trained_run.record_file.read_text())
    assert {"schema", "model", "dataset", "classes", "preprocess", "config", "metrics", "versions", "seed"} <= set(
        record
    )
    assert record["chosen"].keys() == {
        *("device", "precision", "layout", "threads", "cache", "split_rule", "batch_size", "epochs", "processes")
    }
    assert sum(record["dataset_sizes"].values()) == 1797
    assert record["licenses"]["data"] == "CC-BY-4.0"
    test = record["metrics"]["test"]
    assert sum(map(sum, test["confusion"])) == test["images"]
    assert {"precision", "recall", "f1", "images"} == set(test["per_class"]["7"])


def test_another_runs_weights_are_a_start(cli: Callable[..., Answer], trained_run: Run) -> None:
    command = [
        "train",
        "tiny",
        "--dataset",
        "digits",
        "--epochs",
        1,
        "--lr",
        1e-6,
        "--set",
        "warmup_epochs=0",
        "--json",
    ]
    answer = cli(*command, "--weights", trained_run.best_file, "--name", "n")
    assert answer.code == 0, answer.stderr
    assert json.loads(answer.stdout)["metrics"]["test"]["top1"] > 0.9


def test_weights_of_another_model_are_refused(cli: Callable[..., Answer], trained_run: Run) -> None:
    answer = cli("train", "resnet18", "--dataset", "digits", "--image-size", 32, "--weights", trained_run.best_file)
    assert answer.code == 1
    assert "resnet18" in answer.error


def test_dry_run_tells_origins_and_touches_nothing(cli: Callable[..., Answer]) -> None:
    Path("more.toml").write_text("epochs = 7\nlr = 0.5\n")
    answer = cli("train", "tiny", "--dataset", "digits", "--config", "more.toml", "--lr", 0.1, "--dry-run", "--json")
    found = json.loads(answer.stdout)
    assert found["lr"] == {"value": 0.1, "origin": "command line"}
    assert found["epochs"] == {"value": 7, "origin": "more.toml"}
    assert found["augment"] == {"value": "light", "origin": "recipe tiny"}
    assert found["pretrained"] == {"value": False, "origin": "model tiny"}
    assert found["weight_decay"]["origin"] == "default"
    assert [p.name for p in Path().iterdir()] == ["more.toml"]


def test_a_recipe_extends_another_but_never_itself(cli: Callable[..., Answer]) -> None:
    recipes = '[recipes.a]\nextends = "tiny"\nepochs = 2\n[recipes.x]\nextends = "y"\n[recipes.y]\nextends = "x"\n'
    Path("registry.toml").write_text(f"schema = 1\n{recipes}")
    found = json.loads(cli("train", "tiny", "--dataset", "digits", "--recipe", "a", "--dry-run", "--json").stdout)
    assert found["epochs"] == {"value": 2, "origin": "recipe a"}
    assert found["lr"]["origin"] == "recipe tiny"
    assert "extends itself" in cli("train", "tiny", "--dataset", "digits", "--recipe", "x", "--dry-run").error


@pytest.fixture
def pieces(catalogue: Catalogue) -> Pieces:
    def make(**given: object) -> tuple[TrainConfig, torch.nn.Module, Preprocess]:
        settings = {"model": "test_resnet", "dataset": "digits", "device": "cpu", "precision": "fp32", **given}
        config = resolve_options(catalogue, settings, None, None).config
        backbone, preprocess = build_backbone(
            catalogue, catalogue.backbone(config.model), BackboneRequest(num_classes=10, image_size=32)
        )
        return config, backbone, preprocess

    return make


def test_weight_decay_spares_norms_and_biases(pieces: Pieces) -> None:
    config, backbone, _ = pieces(weight_decay=0.3)
    groups = make_optimizer(backbone, config).param_groups
    spared = [p for group in groups if group["weight_decay"] == 0 for p in group["params"]]
    decayed = [p for group in groups if group["weight_decay"] == 0.3 for p in group["params"]]
    assert all(p.ndim <= 1 for p in spared)
    assert all(p.ndim > 1 for p in decayed)
    assert len(spared) + len(decayed) == len(list(backbone.parameters()))


def test_the_rate_warms_up_and_falls_along_a_cosine(pieces: Pieces) -> None:
    config, backbone, preprocess = pieces(epochs=10, lr=0.1, warmup_epochs=2)
    state = make_state(Replica(backbone), make_optimizer(backbone, config))
    plan = make_plan(config, choose(config), preprocess, state.optimizer, 5, make_task(10, multi_label=False))
    rates = []
    for epoch in range(10):
        for step in range(5):
            state.epoch, state.step = epoch, step
            plan.set_learning_rates(state)
            rates.append(state.optimizer.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(0.001)
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert max(rates) > 0.088
    assert rates[-1] < 0.002


def test_the_average_follows_its_formula(pieces: Pieces) -> None:
    _, backbone, _ = pieces()
    state = make_state(Replica(backbone), torch.optim.SGD(backbone.parameters(), 0.1), make_average(backbone, 0.9))
    assert state.ema is not None
    before = {name: value.clone() for name, value in state.ema.module.state_dict().items() if value.is_floating_point()}
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(1.0)
    state.ema.update(backbone, step=100_000)
    for name, value in backbone.named_parameters():
        assert torch.allclose(state.ema.module.state_dict()[name], 0.9 * before[name] + 0.1 * value, atol=1e-5)
