"""Each recipe is whole, says why it is so, and gives what its name promises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from zoo.records.layers import recipe_layers
from zoo.records.options import USUAL_EPOCHS

if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo.catalogue import Catalogue

    from ..conftest import Answer

NAMES = ["finetune", "linear-probe", "edge-small", "from-scratch", "tiny"]


@pytest.fixture
def resolved(cli: Callable[..., Answer]) -> Callable[[str], dict[str, Any]]:
    def resolve(name: str) -> dict[str, Any]:
        answer = cli("train", "resnet18", "--dataset", "digits", "--recipe", name, "--dry-run", "--json")
        assert answer.code == 0, answer.stderr
        found: dict[str, Any] = json.loads(answer.stdout)
        return found

    return resolve


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_resolves_and_says_why(
    catalogue: Catalogue, resolved: Callable[[str], dict[str, Any]], name: str
) -> None:
    assert len(catalogue.registry.recipes[name]["description"]) > 40
    told = resolved(name)
    layers = recipe_layers(catalogue.registry, name)
    assert layers[-1][0] == f"recipe {name}"
    assert {key: told[key]["origin"] for key in layers[-1][1]} == dict.fromkeys(layers[-1][1], f"recipe {name}")


def test_recipes_differ_where_they_should(resolved: Callable[[str], dict[str, Any]]) -> None:
    told = {name: resolved(name) for name in NAMES}
    assert [told[name]["pretrained"]["value"] for name in NAMES] == [True, True, True, False, False]
    assert [told[name]["probe"]["value"] for name in NAMES] == [False, True, False, False, False]
    assert told["edge-small"]["lr"]["value"] > told["finetune"]["lr"]["value"]
    assert told["edge-small"]["epochs"]["value"] > USUAL_EPOCHS
    words = {name: told["finetune"][name]["value"] for name in ("epochs", "batch_size", "head", "batchnorm")}
    assert words == {"epochs": "auto", "batch_size": "by-images", "head": "auto", "batchnorm": "frozen"}
    assert told["from-scratch"]["batchnorm"]["value"] == "batch"
    assert told["edge-small"]["label_smoothing"] == {"value": 0.0, "origin": "recipe edge-small"}
    assert told["edge-small"]["ema_decay"]["origin"] == "recipe finetune"


def test_tiny_is_what_the_stored_results_were_made_with(resolved: Callable[[str], dict[str, Any]]) -> None:
    told = resolved("tiny")
    wanted: dict[str, object] = {
        "epochs": 24,
        "lr": 2e-3,
        "warmup_epochs": 2,
        "batch_size": 64,
        "threads": 1,
        "augment": "light",
    }
    wanted |= {"optimizer": "adamw", "schedule": "cosine", "weight_decay": 0.05, "label_smoothing": 0.1}
    wanted |= {"ema_decay": 0.998, "accumulate": 1, "loss": "auto", "layer_decay": 1.0, "drop_rate": 0.0}
    assert {key: told[key]["value"] for key in wanted} == wanted


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["resnet18"], "finetune"),
        (["resnet18", "--no-pretrained"], "from-scratch"),
        (["resnet18", "--weights", "some.safetensors"], "finetune"),
        (["resnet18", "--no-pretrained", "--recipe", "finetune"], "finetune"),
        (["tiny"], "tiny"),
    ],
    ids=" ".join,
)
def test_a_model_gets_the_recipe_of_its_weights(cli: Callable[..., Answer], words: list[str], wanted: str) -> None:
    Path("some.safetensors").touch()
    answer = cli("train", *words, "--dataset", "digits", "--dry-run", "--json")
    assert answer.code == 0, answer.stderr
    assert json.loads(answer.stdout)["epochs"]["origin"] == f"recipe {wanted}"
