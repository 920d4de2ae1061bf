"""An import that leaves this process as it was, whatever the imported module does to it."""

from __future__ import annotations

import contextlib
import os
import random
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def contained() -> Iterator[None]:
    """Undo what runs inside to the working folder, the random states and the warnings; send its prints to stderr.

    The environment is left alone: a library may rely on what it sets there.
    """
    folder, filters, restore = _folder(), list(warnings.filters), _random_states()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        if folder and folder != _folder():
            os.chdir(folder)
        _without_blanket_filters(filters)
        restore()


def _folder() -> str:
    try:
        return str(Path.cwd())
    except OSError:
        return ""


def _random_states() -> Any:
    """Take the states of the generators that are loaded; return what puts them back."""
    python = random.getstate()
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    numpy_state = numpy.random.get_state() if numpy else None
    torch_state = torch.get_rng_state() if torch and hasattr(torch, "get_rng_state") else None

    def restore() -> None:
        random.setstate(python)
        if numpy:
            numpy.random.set_state(numpy_state)
        if torch and torch_state is not None:
            torch.set_rng_state(torch_state)

    return restore


def _without_blanket_filters(before: list[Any]) -> None:
    """Take back filters that hit everybody's warnings; a library's for its own texts, modules or categories stay."""
    kept = [f for f in warnings.filters if f in before or f[1] or f[3] or f[2].__module__ != "builtins"]
    lost = [f for f in before if f not in kept]
    if lost or len(kept) != len(warnings.filters):
        warnings.filters[:] = [*kept, *lost]  # type: ignore[index]
        with warnings.catch_warnings():  # leaving it makes Python look at the filters anew
            pass
