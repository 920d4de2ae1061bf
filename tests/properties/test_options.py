"""Options of plugins, for any text: what a value was written as comes back as the value, the rest is refused."""

from __future__ import annotations

import inspect
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from zoo.catalogue.options import OFFERED_BY_ZOO, Option, check, options_of, parse_pairs
from zoo.errors import ContractBroken, OptionInvalid

from .junk import ANY_TEXT, TEXT, WORDS, junk
from .told import Refused, answer

if TYPE_CHECKING:
    from collections.abc import Callable


class Colour(StrEnum):
    RED = "red"
    PALE_BLUE = "pale blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 20


WHOLE = st.integers(-(10**30), 10**30)
REAL = st.floats(allow_nan=False)
RIGHT: tuple[tuple[Any, st.SearchStrategy[Any]], ...] = (
    (bool, st.booleans()),
    (int, WHOLE),
    (float, REAL),
    (str, TEXT),
    (Path, TEXT.map(Path)),
    (Colour, st.sampled_from(Colour)),
    (Level, st.sampled_from(Level)),
    (Literal["auto", "off", "1"], st.sampled_from(["auto", "off", "1"])),
    (int | None, WHOLE),
    (float | None, REAL),
    (str | None, TEXT),
    (Path | None, TEXT.map(Path)),
    (int | float, WHOLE | st.floats(-1e9, 1e9)),
    (int | Literal["auto"], WHOLE | st.just("auto")),
)
OPTIONS = {f"option{number}": Option(f"option{number}", kind, None) for number, (kind, _) in enumerate(RIGHT)}
"""One of each type."""
TYPED = st.sampled_from(list(OPTIONS)).flatmap(
    lambda name: st.tuples(st.just(name), RIGHT[list(OPTIONS).index(name)][1])
)
NAMES = st.from_regex(r"[a-z][a-z_]{2,8}", fullmatch=True).filter(lambda name: name not in OFFERED_BY_ZOO)


@given(TYPED)
def test_a_value_comes_back_from_its_text(typed: tuple[str, Any]) -> None:
    name, value = typed
    assert check({name: str(value)}, OPTIONS, "it") == {name: value}


@given(TYPED)
def test_a_right_value_stays_as_it_is(typed: tuple[str, Any]) -> None:
    name, value = typed
    assert check({name: value}, OPTIONS, "it") == {name: value}


def test_so_does_a_number_among_some_that_are_named() -> None:
    options = {"channels": Option("channels", Literal[1, 3], 3)}
    assert check({"channels": "1"}, options, "it") == {"channels": 1}


@given(ANY_TEXT.filter(lambda name: name not in OPTIONS), junk(), st.sampled_from([OPTIONS, {}]))
def test_an_unknown_name_is_refused(name: str, value: Any, options: dict[str, Option]) -> None:
    told = answer(lambda: check({name: value}, options, "it"), OptionInvalid)
    assert isinstance(told, Refused)
    assert f"has no option {name!r}" in told


@given(st.sampled_from(list(OPTIONS)), junk())
@settings(max_examples=100)
def test_any_other_value_is_refused_with_its_name(name: str, value: Any) -> None:
    told = answer(lambda: check({name: value}, OPTIONS, "it"), OptionInvalid)
    assert f"option {name}=" in told if isinstance(told, Refused) else set(told) == {name}


def test_even_a_number_too_long_to_be_written() -> None:
    assert isinstance(answer(lambda: check({"option0": 1 << 20_000}, OPTIONS, "it"), OptionInvalid), Refused)


@given(st.dictionaries(ANY_TEXT.filter(lambda key: bool(key.strip()) and "=" not in key), ANY_TEXT))
def test_pairs_are_taken_apart_at_their_first_sign(pairs: dict[str, str]) -> None:
    texts = [f"{key}={value}" for key, value in pairs.items()]
    assert parse_pairs(texts, "--set") == {key.strip(): value for key, value in pairs.items()}


@given(st.lists(ANY_TEXT | st.just("=") | ANY_TEXT.map("={}".format)))
@example(["="])
@example([""])
def test_what_is_no_pair_is_refused(texts: list[str]) -> None:
    told = answer(lambda: parse_pairs(texts, "--set"), OptionInvalid)
    wrong = [text for text in texts if text.find("=") < 1]
    assert isinstance(told, Refused) == bool(wrong)
    if isinstance(told, Refused):
        assert repr(wrong[0]) in told


def plugin(options: dict[str, tuple[Any, Any]], doc: str) -> Callable[..., None]:
    """Return a function with these options, beside parameters that are none of the user's."""

    def function(**_: Any) -> None:
        pass

    kinds = inspect.Parameter
    others = [kinds("root", kinds.POSITIONAL_OR_KEYWORD), kinds("needed", kinds.KEYWORD_ONLY)]
    others += [kinds(name, kinds.KEYWORD_ONLY, default=None) for name in sorted(OFFERED_BY_ZOO)]
    own = [kinds(name, kinds.KEYWORD_ONLY, default=value, annotation=kind) for name, (kind, value) in options.items()]
    signature = inspect.Signature([*others, *own, kinds("more", kinds.VAR_KEYWORD)])
    function.__signature__ = signature  # type: ignore[attr-defined]
    function.__doc__ = doc
    return function


DECLARED = st.dictionaries(NAMES.filter(lambda name: name not in ("root", "needed", "more")), TYPED, max_size=5)


@given(DECLARED, st.data())
def test_a_signature_tells_names_types_defaults_and_their_help(
    declared: dict[str, tuple[str, Any]], data: st.DataObject
) -> None:
    helps = {name: data.draw(WORDS) for name in declared}
    lines = ["Make it.", "", "Args:", "    root: A folder.", *(f"    {name}: {text}" for name, text in helps.items())]
    options = {name: (OPTIONS[typed].type, value) for name, (typed, value) in declared.items()}
    found = options_of(plugin(options, "\n".join(lines)))
    assert list(found) == list(options)
    assert found == {name: Option(name, kind, value, helps[name]) for name, (kind, value) in options.items()}


@given(DECLARED, ANY_TEXT)
def test_any_docstring_leaves_the_options_readable(declared: dict[str, tuple[str, Any]], doc: str) -> None:
    options = {name: (OPTIONS[typed].type, value) for name, (typed, value) in declared.items()}
    found = answer(lambda: options_of(plugin(options, doc)), ContractBroken)
    assert isinstance(found, Refused) or list(found) == list(options)


@pytest.mark.parametrize("doc", ["Args:\n    size\n    depth", "Make it.\n\nRaises:\n    ValueError"])
def test_even_one_with_a_section_that_cannot_be_read(doc: str) -> None:
    assert options_of(plugin({"size": (int, 3)}, doc)) == {"size": Option("size", int, 3, "")}


@pytest.mark.parametrize("thing", [int, len, dict.get, "text", None])
def test_what_has_no_signature_is_the_plugin_s_fault(thing: Any) -> None:
    found = answer(lambda: options_of(thing), ContractBroken)
    assert isinstance(found, Refused) or found == {}
