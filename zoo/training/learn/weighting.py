"""How much each class counts in the training loss: balanced from the labels, or as a file says."""

from __future__ import annotations

import csv
import difflib
import io
import json
import math
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import OptionInvalid
from zoo.records.options import BALANCED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


MOST_POSITIVE = 20.0
"""What a label's positive images may weigh at most, and 1/20 at least, if balanced: the few of a very rare label
would otherwise outweigh all else in the batches that hold one."""
MOST_NAMED = 5


def class_weights(asked: str, labels: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Return what each class weighs in the training loss.

    Args:
        asked: "balanced", or a file of weights.
        labels: int64 [N], or uint8 [N, C] in {0, 1}, of the training images; every class has one.
        classes: The C names.

    Returns:
        With one label an image: weights whose mean over the training images is 1, since only their ratios matter.
        Balanced is N / (C * images of the class).
        With several labels: what an image that has the label weighs against one that has not. Balanced is the
        number of those without over those with it, at least 1/20 and at most 20.

    Raises:
        OptionInvalid: the file cannot be read, or does not name each class once with a positive number.
    """
    several = labels.ndim == 2
    if asked == BALANCED:
        weights = _balanced_labels(labels) if several else _balanced_classes(labels)
    else:
        weights = _in_order(read_weights(Path(asked)), classes, asked)
    if not several:
        weights = weights / weights[labels].mean()
    return dict(zip(classes, weights.tolist(), strict=True))


def check_weights(asked: str, classes: Sequence[str] = ()) -> None:
    """Raise OptionInvalid for a file that cannot be read, or does not fit the classes, before anything takes time."""
    if asked not in ("", BALANCED):
        given = read_weights(Path(asked))
        if classes:
            _in_order(given, classes, asked)


def read_weights(file: Path) -> dict[str, float]:
    """Read class -> weight from TOML, JSON, or CSV with two columns (a header is passed over).

    Raises:
        OptionInvalid: missing, another format, or a weight that is no positive number.
    """
    read = _READERS.get(file.suffix.lower())
    if read is None:
        raise _wrong(file, f"is neither {BALANCED!r} nor a .toml, .json or .csv file of class and weight")
    try:
        found = read(file.read_text(encoding="utf-8-sig"))
    except OSError as exc:
        raise _wrong(file, f"cannot be read: {exc.strerror or exc}") from exc
    except (ValueError, csv.Error, RecursionError) as exc:
        raise _wrong(file, f"cannot be understood: {exc}") from exc
    for name, weight in found:
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
            raise _wrong(file, f"gives class {name!r} the weight {weight!r}; write a positive number")
    names = [name for name, _ in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise _wrong(file, f"names class {twice!r} twice; keep one")
    return {name: float(weight) for name, weight in found}


def _in_order(given: dict[str, float], classes: Sequence[str], file: str) -> np.ndarray:
    for name in given:
        if name not in classes:
            close = difflib.get_close_matches(name, classes, n=3)
            hint = f"did you mean {' or '.join(close)}?" if close else f"the classes are {_some(classes)}"
            raise _wrong(file, f"names {name!r}, which is no class of the dataset; {hint}")
    missing = [name for name in classes if name not in given]
    if missing:
        raise _wrong(file, f"gives no weight for {_some(missing)}; name every class")
    return np.array([given[name] for name in classes])


def _balanced_classes(labels: np.ndarray) -> np.ndarray:
    from sklearn.utils.class_weight import compute_class_weight

    weights: np.ndarray = compute_class_weight("balanced", classes=np.unique(labels), y=labels)
    return weights


def _balanced_labels(labels: np.ndarray) -> np.ndarray:
    positives = labels.sum(0, dtype=np.int64)
    weights: np.ndarray = np.clip((len(labels) - positives) / positives, 1 / MOST_POSITIVE, MOST_POSITIVE)
    return weights


def _from_toml(text: str) -> list[tuple[str, Any]]:
    return list(tomllib.loads(text).items())


def _from_json(text: str) -> list[tuple[str, Any]]:
    # Pairs, since a dictionary would hide that a class is named twice.
    found = json.loads(text, object_pairs_hook=list)
    if not isinstance(found, list) or not all(isinstance(pair, tuple) for pair in found):
        raise ValueError('not an object of class and weight, as in {"cat": 2.5}')
    return found


def _from_csv(text: str) -> list[tuple[str, Any]]:
    first = text.partition("\n")[0]
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True))
    found: list[tuple[str, Any]] = []
    for number, row in enumerate(rows, 1):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != 2:
            raise ValueError(f"line {number} has {len(row)} cells, and needs 2: class and weight")
        weight = _number(row[1])
        if number > 1 or not isinstance(weight, str):
            found.append((row[0].strip(), weight))
    return found


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


_READERS: dict[str, Callable[[str], list[tuple[str, Any]]]] = {
    ".toml": _from_toml,
    ".json": _from_json,
    ".csv": _from_csv,
}


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(map(repr, names[:MOST_NAMED])) + more


def _wrong(file: Path | str, what: str) -> OptionInvalid:
    return OptionInvalid(f"--class-weights {file} {what}")
