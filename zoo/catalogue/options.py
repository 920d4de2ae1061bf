"""A plugin's own options: read from its signature, checked before anything runs."""

from __future__ import annotations

import difflib
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from zoo.errors import ContractBroken, OptionInvalid, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

OFFERED_BY_ZOO = frozenset({"pretrained", "weights", "image_size"})
"""Keywords that the core itself fills in; they are no options of the user's."""


@dataclass(frozen=True)
class Option:
    """One keyword option of a plugin."""

    name: str
    type: Any
    default: Any
    help: str = ""

    @property
    def type_name(self) -> str:
        """The type as a user would write it."""
        return getattr(self.type, "__name__", str(self.type))


def options_of(function: Callable[..., Any]) -> dict[str, Option]:
    """Return the annotated keyword-only parameters with defaults, in the order of the signature."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as exc:
        raise ContractBroken(f"the options of {function!r} cannot be read from its signature: {exc}") from exc
    helps = option_helps(inspect.getdoc(function) or "")
    return {
        p.name: Option(p.name, _annotation(function, p), p.default, helps.get(p.name, ""))
        for p in parameters
        if p.kind is p.KEYWORD_ONLY and p.default is not p.empty and p.name not in OFFERED_BY_ZOO
    }


def _annotation(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """Evaluate one annotation alone: others may name what a plugin imports for type checkers only."""
    if not isinstance(parameter.annotation, str):
        return parameter.annotation
    try:
        return eval(parameter.annotation, getattr(inspect.unwrap(function), "__globals__", {}))
    except Exception as exc:
        name = getattr(function, "__qualname__", repr(function))
        raise ContractBroken(
            f"option {parameter.name!r} of {name} has an annotation that cannot be read: {exc}"
        ) from exc


def exporter_options(exporter: object) -> dict[str, Option]:
    """Return what `export_options()` of an exporter tells, typed by its defaults; none if it has no such method."""
    declared: Mapping[str, object] = getattr(exporter, "export_options", dict)()
    helps = option_helps(inspect.getdoc(exporter) or "")
    return {name: Option(name, type(default), default, helps.get(name, "")) for name, default in declared.items()}


def option_helps(docstring: str) -> dict[str, str]:
    """Return name -> text from the `Args:` or `Options:` section of a docstring, in any of the usual styles.

    A docstring that cannot be read costs its helps, and nothing else.
    """
    import docstring_parser
    import docstring_parser.google as google

    options = google.Section("Options", "option", google.SectionType.MULTIPLE)
    try:
        found = google.GoogleParser([*google.DEFAULT_SECTIONS, options]).parse(docstring).meta
        found = found or docstring_parser.parse(docstring).meta
    except docstring_parser.ParseError:
        return {}
    return {
        meta.args[1].partition(" ")[0]: " ".join((meta.description or "").split())
        for meta in found
        if meta.args[1:] and meta.args[0] in ("param", "option", "attribute")
    }


def check(given: Mapping[str, Any], options: Mapping[str, Option], owner: str) -> dict[str, Any]:
    """Turn what a user gave (text, or TOML values) into typed values.

    Raises:
        OptionInvalid: a name that `owner` does not have, or a value of another type.
    """
    checked: dict[str, Any] = {}
    for name, value in given.items():
        if name not in options:
            raise OptionInvalid(unknown_option(owner, name, [*options]))
        option = options[name]
        if option.type is str and isinstance(value, str):
            checked[name] = value
            continue
        # Texts need no more, and pydantic takes a tenth of a second.
        from pydantic import PydanticUserError, TypeAdapter, ValidationError

        try:
            checked[name] = TypeAdapter(option.type).validate_python(_meant(option.type, value))
        except ValidationError as exc:
            reason = exc.errors()[0]["msg"]
            raise OptionInvalid(f"option {name}={shown(value)} of {owner} is no {option.type_name}: {reason}") from exc
        except PydanticUserError as exc:
            raise ContractBroken(
                f"option {name!r} of {owner} has a type that cannot be checked: {option.type_name}"
            ) from exc
    return checked


def _meant(kind: Any, value: Any) -> Any:
    """Return the one of some named values that a text from the command line means; others as they are."""
    named = {str(choice): choice for choice in get_args(kind)} if get_origin(kind) is Literal else {}
    return named.get(value, value) if isinstance(value, str) else value


def parse_pairs(pairs: Iterable[str], flag: str) -> dict[str, str]:
    """Split KEY=VALUE texts from the command line.

    Raises:
        OptionInvalid: a text without "=".
    """
    parsed = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise OptionInvalid(f"{flag} {pair!r} is not KEY=VALUE; write for example {flag} path=images")
        parsed[key.strip()] = value
    return parsed


def unknown_option(owner: str, name: str, known: Sequence[str]) -> str:
    """Return what is said of an option that `owner` does not have."""
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(known) or 'none'}"
    return f"{owner} has no option {name!r}; {hint}"
