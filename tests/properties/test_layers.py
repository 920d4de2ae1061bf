"""Options of a run, for any layers: they make a configuration, the last layer winning, or are refused in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.errors import OptionInvalid
from zoo.records.config import RESUME_MAY_CHANGE, TrainConfig
from zoo.records.layers import Layer, changed_on_resume, file_layer, resolve
from zoo.records.options import ClipMode, Loss

from .junk import ANY_TEXT, TEXT, junk
from .told import Refused, answer

if TYPE_CHECKING:
    from pathlib import Path

FIELDS = list(TrainConfig.model_fields)
NEEDED: Layer = ("command line", {"model": "tiny", "dataset": "digits"})
NAMES = st.text("abcdefgh ", min_size=1).filter(lambda text: bool(text.strip())).map(str.strip)
SHARES = st.floats(0, 1, exclude_min=True, exclude_max=True)
RIGHT: dict[str, st.SearchStrategy[Any]] = {
    "augment": TEXT,
    "image_size": st.integers(0, 4096),
    "image_size_growth": SHARES,
    "pretrained": st.booleans(),
    "epochs": st.integers(1, 100_000) | st.just("auto"),
    "batch_size": st.integers(2, 65_536) | st.sampled_from(["auto", "by-images"]),
    "lr": st.floats(0, 100, exclude_min=True),
    "betas": st.lists(SHARES, max_size=3).map(tuple),
    "schedule": st.sampled_from(["cosine", "step", "plateau", "onecycle", "constant"]),
    "freeze": st.sampled_from(["", "backbone"]),
    "loss": st.sampled_from(get_args(Loss)),
    "clip_grad": st.floats(0, allow_infinity=False),
    "clip_mode": st.sampled_from(get_args(ClipMode)),
    "seed": st.integers(0, 2**32 - 1),
    "cache_limit": st.floats(0, allow_infinity=False),
    "workers": st.integers(-1, 256),
    "patience": st.integers(0),
    "compile": st.booleans(),
    "trackers": st.lists(NAMES, max_size=3).map(tuple),
}
"""What some options may be: of each kind of type one at least."""
OPTIONS = st.fixed_dictionaries({}, optional=RIGHT)
TABLES = ("dataset_options", "backbone_options", "augment_options", "tracker_options")
JUNK = st.dictionaries(st.sampled_from(FIELDS) | ANY_TEXT, junk(), max_size=4)


def layers_of(tables: list[dict[str, Any]]) -> list[Layer]:
    return [(f"layer {number}", values) for number, values in enumerate(tables)]


def text_of(value: Any) -> str:
    """Write a value as `--set` takes it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


@given(st.lists(JUNK, min_size=1, max_size=3), st.booleans())
@settings(max_examples=150)
def test_any_layers_are_a_configuration_or_refused_in_one_line(tables: list[dict[str, Any]], complete: bool) -> None:
    layers = [*([NEEDED] if complete else []), *layers_of(tables)]
    found = answer(lambda: resolve(layers), OptionInvalid)
    if isinstance(found, Refused):
        assert "(from layer " in found or found.startswith("training needs a ")
        return
    last = {key: origin for origin, values in layers for key in values}
    assert found.origins == {**dict.fromkeys(FIELDS, "default"), **last}


@given(st.sampled_from(FIELDS), junk())
@settings(max_examples=100)
def test_one_wrong_value_is_refused_by_the_name_of_its_option(name: str, value: Any) -> None:
    needed = {key: text for key, text in NEEDED[1].items() if key != name}
    found = answer(lambda: resolve([("command line", needed), ("a file", {name: value})]), OptionInvalid)
    if isinstance(found, Refused):
        assert f"option {name} = " in found
        assert "(from a file): " in found


@pytest.mark.parametrize(("name", "below"), [("dataset_options", "x"), ("epochs", 3)])
def test_a_table_over_a_value_is_refused(name: str, below: Any) -> None:
    tables = layers_of([{name: below}, {name: {"path": "images"}}])
    told = answer(lambda: resolve([NEEDED, *tables]), OptionInvalid)
    assert isinstance(told, Refused)
    assert name in told


def test_a_name_that_is_no_utf_8_is_refused() -> None:
    told = answer(lambda: resolve([NEEDED, ("command line", {"\udcff": 1})]), OptionInvalid)
    assert isinstance(told, Refused)


def test_a_number_too_long_to_be_written_is_refused() -> None:
    told = answer(lambda: resolve([NEEDED, ("a file", {"seed": 1 << 20_000})]), OptionInvalid)
    assert isinstance(told, Refused)
    assert "seed" in told


@given(st.lists(OPTIONS, max_size=3))
def test_right_values_are_taken_and_the_last_layer_wins(tables: list[dict[str, Any]]) -> None:
    found = resolve([NEEDED, *layers_of(tables)])
    wanted = {key: value for values in tables for key, value in values.items()}
    assert {key: getattr(found.config, key) for key in wanted} == wanted
    untouched = TrainConfig(model="tiny", dataset="digits").model_dump()
    assert {key: value for key, value in found.config.model_dump().items() if key not in wanted} == {
        key: value for key, value in untouched.items() if key not in wanted
    }


@given(OPTIONS)
def test_a_value_as_text_is_the_same_value(values: dict[str, Any]) -> None:
    as_text = {key: text_of(value) for key, value in values.items()}
    assert resolve([NEEDED, ("command line", as_text)]).config == resolve([NEEDED, ("a file", values)]).config


@given(OPTIONS)
def test_a_configuration_comes_back_from_what_is_stored(values: dict[str, Any]) -> None:
    config = resolve([NEEDED, ("a file", values)]).config
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config
    assert resolve([("saved run", config.model_dump())]).config == config


@given(st.lists(st.tuples(st.sampled_from(TABLES), st.dictionaries(TEXT, TEXT, max_size=3)), max_size=4))
def test_tables_are_laid_over_each_other_key_by_key(tables: list[tuple[str, dict[str, str]]]) -> None:
    config = resolve([NEEDED, *layers_of([{name: values} for name, values in tables])]).config
    for name in TABLES:
        own = [values for table, values in tables if table == name]
        assert getattr(config, name) == {key: value for values in own for key, value in values.items()}


@given(OPTIONS, OPTIONS)
def test_a_resume_changes_what_it_may_and_nothing_else(saved: dict[str, Any], given_now: dict[str, Any]) -> None:
    before = resolve([NEEDED, ("a file", saved)]).config
    told = answer(lambda: changed_on_resume(before, given_now), OptionInvalid)
    refused = [name for name, value in given_now.items() if getattr(before, name) != value]
    refused = [name for name in refused if name not in RESUME_MAY_CHANGE]
    assert isinstance(told, Refused) == bool(refused)
    if isinstance(told, Refused):
        assert all(f"{name} was " in told for name in refused)
    else:
        assert told == before.model_copy(update=given_now)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("layers") / "options.toml"


LINES = st.text("ab=.[]{}\"'\\,#0x1e-:T\n\r\0é ", max_size=30).map(str.encode) | st.binary(max_size=20)


@given(content=LINES)
@settings(max_examples=100)
def test_any_file_is_a_layer_or_refused_by_its_name(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    told = answer(lambda: file_layer(file), OptionInvalid)
    if isinstance(told, Refused):
        assert f"--config {file}: " in told
    else:
        assert told[0] == str(file)


def test_a_file_of_nothing_but_brackets_is_refused(file: Path) -> None:
    file.write_text("a = " + "[" * 2_000)
    assert isinstance(answer(lambda: file_layer(file), OptionInvalid), Refused)
