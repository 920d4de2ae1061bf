"""What a search may vary: `lr=1e-5..1e-2:log`, `epochs=3..10`, `optimizer=adamw,sgd`."""

from __future__ import annotations

import difflib
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from zoo.errors import OptionInvalid
from zoo.records.config import TrainConfig

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FIXED = frozenset({"dataset", "dataset_options", "trackers", "tracker_options", "license_allow"})
"""What all trials share: with other data their figures could not be compared."""
EXAMPLES = "lr=1e-5..1e-2:log, epochs=3..10 or optimizer=adamw,sgd"

Value = int | float | str


class Suggests(Protocol):
    """What is needed of Optuna's trial."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...

    def suggest_categorical(self, name: str, choices: Sequence[Value]) -> Any: ...


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One option and what it may be: a range, or a list of values."""

    option: str
    """A training option, or KEY of one that is a table, as in `augment_options.strength`."""
    text: str
    """As the user wrote it."""
    low: float = 0
    high: float = 0
    whole: bool = False
    log: bool = False
    choices: tuple[str, ...] = ()

    def suggest(self, trial: Suggests) -> Value:
        """Take a value for a trial."""
        if self.choices:
            found: Value = trial.suggest_categorical(self.option, self.choices)
            return found
        if self.whole:
            return trial.suggest_int(self.option, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(self.option, self.low, self.high, log=self.log)

    def corners(self) -> tuple[Value, ...]:
        """Return the values that must all be allowed, so that every other one is."""
        ends: tuple[Value, ...] = (int(self.low), int(self.high)) if self.whole else (self.low, self.high)
        return self.choices or ends


def parse_search(texts: Sequence[str]) -> tuple[Dimension, ...]:
    """Read every `--search OPTION=RANGE` or `OPTION=VALUE,VALUE`.

    Raises:
        OptionInvalid: unknown option, no range or list, a range that is empty or cannot be logarithmic.
    """
    if not texts:
        raise OptionInvalid(f"zoo tune needs something to search: --search {EXAMPLES}")
    found = [_dimension(text) for text in texts]
    twice = {d.option for d in found if sum(d.option == other.option for other in found) > 1}
    if twice:
        raise OptionInvalid(f"--search names {', '.join(sorted(twice))} twice; write one range for each option")
    return tuple(found)


def as_options(values: Mapping[str, Value]) -> dict[str, Any]:
    """Return values as a layer of training options: `augment_options.strength` goes into its table."""
    layer: dict[str, Any] = {}
    for name, value in values.items():
        option, _, key = name.partition(".")
        if key:
            layer.setdefault(option, {})[key] = value
        else:
            layer[option] = value
    return layer


def _dimension(text: str) -> Dimension:
    name, equals, wanted = (part.strip() for part in text.partition("="))
    if not equals or not name or not wanted:
        raise OptionInvalid(f"--search {text!r} is not OPTION=RANGE; write for example {EXAMPLES}")
    kinds = _kinds(name)
    body, _, scale = wanted.partition(":")
    low, dots, high = body.partition("..")
    if not dots:
        return Dimension(option=name, text=wanted, choices=_choices(name, wanted))
    if scale not in ("", "log"):
        raise OptionInvalid(f"--search {text}: {scale!r} is no scale; write :log, or nothing for a linear one")
    if not {int, float} & kinds:
        raise OptionInvalid(f"--search {text}: {name} is no number; list its values, as in {name}=A,B")
    ends = _numbers(text, low, high)
    whole = float not in kinds or ("." in name and all(_is_whole(end) for end in (low, high)))
    if whole and not all(end.is_integer() for end in ends):
        raise OptionInvalid(f"--search {text}: {name} takes whole numbers; write for example {name}=3..10")
    if not ends[0] < ends[1]:
        raise OptionInvalid(f"--search {text}: the range is empty; write the smaller number first")
    if scale and ends[0] <= 0:
        raise OptionInvalid(f"--search {text}: a logarithmic range begins above 0; raise its low end or leave :log out")
    return Dimension(option=name, text=wanted, low=ends[0], high=ends[1], whole=whole, log=bool(scale))


def _kinds(name: str) -> set[object]:
    """Return the plain types that an option takes; of a key inside a table nothing is known."""
    option, dot, key = name.partition(".")
    if option not in TrainConfig.model_fields:
        close = difflib.get_close_matches(option, TrainConfig.model_fields, n=1)
        hint = f"did you mean {close[0]}?" if close else "`zoo train --dry-run` lists them"
        raise OptionInvalid(f"--search: no training option is named {option!r}; {hint}")
    if option in FIXED:
        raise OptionInvalid(f"--search cannot vary {option}: all trials share it; name another option")
    kinds = _plain(TrainConfig.model_fields[option].annotation)
    table = dict in kinds
    if table != bool(dot and key):
        wanted = f"one key of it, as in {option}.KEY=1..2" if table else f"{option} alone"
        raise OptionInvalid(f"--search {name}: write {wanted}")
    return {int, float, str} if table else kinds


def _plain(annotation: Any) -> set[object]:
    origin = typing.get_origin(annotation)
    if origin is None or origin in (dict, tuple):
        return {origin or annotation}
    if origin is typing.Literal:
        return {str}
    # Of Annotated[int, Field(...)] the first is the type; of a union all are.
    parts = typing.get_args(annotation)
    return set().union(*(_plain(part) for part in (parts[:1] if origin is typing.Annotated else parts)))


def _choices(name: str, wanted: str) -> tuple[str, ...]:
    values = tuple(dict.fromkeys(part.strip() for part in wanted.split(",") if part.strip()))
    if len(values) < 2:
        raise OptionInvalid(
            f"--search {name}={wanted} leaves no choice; write a range or more values, as in {EXAMPLES}"
        )
    return values


def _numbers(text: str, low: str, high: str) -> tuple[float, float]:
    try:
        found = float(low), float(high)
    except ValueError:
        found = float("nan"), float("nan")
    if not all(abs(number) < float("inf") for number in found):
        raise OptionInvalid(f"--search {text}: the ends of a range are numbers; write for example lr=1e-5..1e-2:log")
    return found


def _is_whole(text: str) -> bool:
    return text.strip().lstrip("+-").isdigit()
