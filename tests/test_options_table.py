"""One row for each option of training: its flag, its help and its line in the docs come from there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import typer

from zoo.cli.app import app
from zoo.records.config import TrainConfig
from zoo.records.options import training_options
from zoo.records.rows import REQUIRED, Range

from .conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Answer

ROWS = training_options()
COMMANDS: Any = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(ROWS))
def test_a_row_is_a_field_a_flag_and_a_line(name: str) -> None:
    row, field = ROWS[name], TrainConfig.model_fields[name]
    assert field.is_required() == (row.default is REQUIRED)
    assert row.default in (REQUIRED, field.default)
    assert row.told.help.endswith(".")
    assert f"| `{name}` | `{row.flag}` |" in (ROOT / "docs/train.md").read_text()
    for command in ("train", "tune"):
        parameter = next(p for p in COMMANDS[command].params if p.name == name)
        assert name == "model" or parameter.opts == [row.flag]
        assert name in ("model", "dataset", "seed") or parameter.help == row.help


def test_the_table_is_all_there_is() -> None:
    assert list(ROWS) == list(TrainConfig.model_fields)
    own = {"name", "runs", "recipe", "config", "set_", "resume", "dry_run", "devices", "json"}
    assert {p.name for p in COMMANDS["train"].params} == {*ROWS, *own}


def test_help_has_groups_ranges_choices_and_defaults(cli: Callable[..., Answer]) -> None:
    text = " ".join(cli("train", "--help").stdout.split())
    headings = ("Arguments:", "Run:", "Data:", "Model:", "Optimisation:", "Augmentation:", "Machine:", "Output:")
    places = [text.index(heading) for heading in headings]
    assert places == sorted(places)
    for words in (
        "[0<=x<1; default: 0.1]",
        "cosine|step|plateau",
        "[default: adamw]",
        "N|auto|by-images",
        "--from RUN",
    ):
        assert words in text
    assert "typing." not in text
    assert "<list" not in text


@pytest.mark.parametrize(
    ("bounds", "told"),
    [
        (Range(ge=0), "x>=0"),
        (Range(gt=0), "x>0"),
        (Range(ge=0, lt=1), "0<=x<1"),
        (Range(gt=0, le=1), "0<x<=1"),
        (Range(le=5), "x<=5"),
    ],
)
def test_a_range_is_told(bounds: Range, told: str) -> None:
    assert str(bounds) == told


def test_every_kind_of_flag_arrives(cli: Callable[..., Answer]) -> None:
    import json

    words = [
        *("train", "tiny", "--dataset", "digits", "--dry-run", "--json", "--no-pretrained", "--probe"),
        *("--betas", "0.9,0.95", "--tracker", "numbers", "--tracker", "tensorboard", "--augment-option", "strength=2"),
        *("--epochs", "auto", "--momentum", "0.5", "--fold", "1", "--folds", "5", "--license-allow", "MIT, Apache-2.0"),
    ]
    answer = cli(*words)
    if answer.code:
        assert "numbers" in answer.error, answer.stderr
        words.remove("numbers")
        words.remove("--tracker")
        answer = cli(*words)
    assert answer.code == 0, answer.stderr
    found = {key: value["value"] for key, value in json.loads(answer.stdout).items()}
    assert (found["pretrained"], found["probe"], found["betas"]) == (False, True, [0.9, 0.95])
    assert (found["epochs"], found["momentum"], found["fold"]) == ("auto", 0.5, 1)
    assert found["license_allow"] == ["MIT", "Apache-2.0"]
    assert found["augment_options"] == {"strength": "2"}
    origins = {key: value["origin"] for key, value in json.loads(answer.stdout).items()}
    assert origins["backbone_options"] == "default"
