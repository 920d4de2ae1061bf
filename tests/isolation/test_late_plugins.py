"""Plugins that fail after import, all installed at once: each is named in one line, and takes nothing else down."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from tests.isolation.bad_plugins import GOOD, install
from tests.isolation.late_plugins import LATE, Late

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Answer
    from zoo.records.run import Run


@pytest.fixture(autouse=True, scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("site")
    for bad in (*(late.bad for late in LATE), GOOD):
        install(folder, bad)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield
    for name in [name for name, module in sys.modules.items() if _stands_in(module, folder)]:
        del sys.modules[name]


def _stands_in(module: object, folder: Path) -> bool:
    return str(getattr(module, "__file__", None) or "").startswith(str(folder))


def test_there_are_at_least_ten() -> None:
    assert len(LATE) >= 10


@pytest.mark.parametrize("late", LATE, ids=lambda late: late.bad.name)
def test_using_one_is_one_line_that_names_it(late: Late, cli: Callable[..., Answer], trained_run: Run) -> None:
    answer = cli(*(str(trained_run.path) if word == "RUN" else word for word in late.command))
    assert answer.code == 1, answer
    assert late.bad.name in answer.error
    assert late.fails in answer.error
    assert "internal error" not in answer.error


def test_the_check_tells_those_that_fail_when_they_are_made(cli: Callable[..., Answer]) -> None:
    rows = {row["distribution"]: row for row in json.loads(cli("plugin", "list", "--check", "--json").stdout)}
    for late in LATE:
        row = rows[late.bad.name]
        assert row["state"] == late.bad.state, row
        assert late.bad.says in row["reason"]


@pytest.mark.parametrize(
    "command",
    [
        ("list", "models"),
        ("list", "exporters"),
        ("show", "model", "test_resnet"),
        ("show", "exporter", "onnx"),
        ("train", "resnet18", "--dataset", "digits", "--no-pretrained", "--dry-run"),
    ],
    ids=" ".join,
)
def test_nothing_else_notices(command: tuple[str, ...], cli: Callable[..., Answer]) -> None:
    answer = cli(*command)
    assert answer.code == 0, answer
    assert not answer.stderr


def test_a_model_that_nobody_knows_may_be_one_of_a_broken_family(cli: Callable[..., Answer]) -> None:
    error = cli("train", "resnet-of-nobody", "--dataset", "digits").error
    assert "family-names" not in error
    assert (
        "the family family_exits and family_knows and family_made and family_nameless and family_names gives no names"
        in error
    )
