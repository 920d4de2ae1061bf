"""What a search has measured so far, on disk: one that is killed goes on where it was."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

NAME = "search.json"


class Journal:
    """Recipe -> what was measured of it; of another model or request it knows nothing."""

    def __init__(self, folder: Path | None, fingerprint: str) -> None:
        self._file = folder / NAME if folder else None
        self._fingerprint = fingerprint
        self._known: dict[str, dict[str, Any]] = self._read()

    @property
    def known(self) -> int:
        """How many recipes it tells of."""
        return len(self._known)

    def get(self, recipe: str, what: str) -> Any:
        """Return a measurement; None if it was not made."""
        return self._known.get(recipe, {}).get(what)

    def put(self, recipe: str, what: str, value: Any) -> None:
        """Keep a measurement."""
        self._known.setdefault(recipe, {})[what] = value
        if self._file:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            part = self._file.with_suffix(".part")
            part.write_text(json.dumps({"of": self._fingerprint, "known": self._known}))
            part.replace(self._file)

    def _read(self) -> dict[str, dict[str, Any]]:
        if not self._file or not self._file.is_file():
            return {}
        try:
            kept = json.loads(self._file.read_text())
            return dict(kept["known"]) if kept["of"] == self._fingerprint else {}
        except (ValueError, KeyError, TypeError):  # cut off by a full disk; measured again
            return {}
