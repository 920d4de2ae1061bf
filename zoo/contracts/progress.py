"""How a function tells what it is doing: by rich on stderr, to a callback, or not at all; never on stdout."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

Progress = bool | Callable[[str], None]
"""True: by rich on stderr, in Jupyter below the cell; a function: called with each line; False: nothing is told."""

PIPE_WIDTH = 160


def noting(progress: Progress) -> Callable[[str], None]:
    """Return what takes one line about what is done."""
    if callable(progress):
        return _Told(progress)
    return note if progress else _nothing


def console(file: Any = None) -> Console:
    """Return a console, on stderr unless told otherwise; user text is never taken for markup."""
    from rich.console import Console

    file = file or sys.stderr
    return Console(file=file, markup=False, highlight=False, width=None if file.isatty() else PIPE_WIDTH)


def note(text: str) -> None:
    """Print one line on stderr."""
    console().print(text, style="dim")


class _Told:
    """A user's function: one that fails is told once and called no more, as nothing should be lost by it."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    def __call__(self, text: str) -> None:
        try:
            self._tell(text)
        except Exception as exc:
            self._tell = _nothing
            warnings.warn(f"the progress function failed and hears no more: {type(exc).__name__}: {exc}", stacklevel=3)


def _nothing(text: str) -> None:
    """Take a line and leave it at that."""
