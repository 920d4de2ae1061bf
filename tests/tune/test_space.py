"""What a search may vary is read exactly, and refused in one line before anything runs."""

from __future__ import annotations

import pytest

from zoo.errors import OptionInvalid
from zoo.tune.objective import parse_objectives
from zoo.tune.space import as_options, parse_search


@pytest.mark.parametrize(
    ("text", "corners", "whole", "log"),
    [
        ("lr=1e-5..1e-2:log", (1e-5, 1e-2), False, True),
        ("epochs=3..10", (3, 10), True, False),
        ("lr=1..10", (1.0, 10.0), False, False),
        ("batch_size=8..64:log", (8, 64), True, True),
        ("optimizer=adamw,sgd", ("adamw", "sgd"), False, False),
        ("batch_size=16,auto", ("16", "auto"), False, False),
        ("pretrained=true,false", ("true", "false"), False, False),
        ("augment_options.strength=0.5..2", (0.5, 2.0), False, False),
        ("backbone_options.depth=2..4", (2, 4), True, False),
        ("schedule=cosine, constant", ("cosine", "constant"), False, False),
    ],
)
def test_ranges_and_lists_are_read(text: str, corners: tuple[object, ...], whole: bool, log: bool) -> None:
    (found,) = parse_search([text])
    assert (found.corners(), found.whole, found.log) == (corners, whole, log)
    assert [type(value) for value in found.corners()] == [type(value) for value in corners]


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        ([], "needs something to search"),
        (["lr"], "is not OPTION=RANGE"),
        (["lr="], "is not OPTION=RANGE"),
        (["ler=1..2"], "did you mean lr"),
        (["lr=1e-2..1e-5"], "smaller number first"),
        (["lr=1..1"], "the range is empty"),
        (["lr=0..1:log"], "begins above 0"),
        (["lr=1..2:logarithmic"], "'logarithmic' is no scale"),
        (["lr=a..b"], "are numbers"),
        (["lr=1..inf"], "are numbers"),
        (["lr=nan..1"], "are numbers"),
        (["epochs=1.5..3"], "whole numbers"),
        (["optimizer=1..2"], "is no number"),
        (["optimizer=sgd"], "leaves no choice"),
        (["optimizer=sgd,sgd"], "leaves no choice"),
        (["dataset=a,b"], "cannot vary dataset"),
        (["augment_options=1..2"], "augment_options.KEY"),
        (["lr.x=1..2"], "lr alone"),
        (["lr=1..2", "lr=2..3"], "lr twice"),
    ],
)
def test_what_cannot_be_searched_is_one_line(texts: list[str], told: str) -> None:
    with pytest.raises(OptionInvalid, match=told) as caught:
        parse_search(texts)
    assert "\n" not in str(caught.value)


def test_keys_go_into_their_tables() -> None:
    values: dict[str, int | float | str] = {"lr": 0.1, "augment_options.strength": 2, "augment_options.flip": "yes"}
    assert as_options(values) == {"lr": 0.1, "augment_options": {"strength": 2, "flip": "yes"}}


def test_objectives_know_their_direction() -> None:
    found = parse_objectives(["val_top1", "val_loss", "latency", "size"])
    assert [o.direction for o in found] == ["maximize", "minimize", "minimize", "minimize"]
    assert [o.name for o in parse_objectives([])] == ["val_top1"]


@pytest.mark.parametrize(("names", "told"), [(["accuracy"], "latency"), (["val_"], "unknown"), (["size"] * 2, "twice")])
def test_an_unknown_objective_is_one_line(names: list[str], told: str) -> None:
    with pytest.raises(OptionInvalid, match=told):
        parse_objectives(names)
