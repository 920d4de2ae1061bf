"""What was measured on this machine, kept in `$ZOO_HOME/measured.json`, so that a second run need not measure again."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from zoo.disk.files import write_json
from zoo.disk.home import zoo_home
from zoo.errors import EnvironmentBroken

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    Key = Mapping[str, object]
    """All that the measurement depends on, as plain values."""


def recall(key: Key) -> Any:
    """Return what was remembered under `key`, None if nothing was."""
    return _read(_file()).get(_text(key))


def remember(key: Key, value: Any) -> None:
    """Keep a plain value under `key`; where nothing can be written it is measured again next time."""
    file = _file()
    # Two runs that write at once may lose one of the two; that costs a measurement, a lock would cost more.
    with contextlib.suppress(EnvironmentBroken):
        write_json(file, {**_read(file), _text(key): value})


def _file() -> Path:
    return zoo_home() / "measured.json"


def _text(key: Key) -> str:
    return json.dumps(key, sort_keys=True, default=str)


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
