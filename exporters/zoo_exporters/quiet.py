"""Keep a library's chatter from the user, and boil its exceptions down to a line."""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import os
import re
import sys
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONGEST_REASON = 240


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence prints, log lines and warnings of what runs inside; process-wide, so keep it around exports only."""
    before = logging.root.manager.disable
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(before)


def aloud(say: Callable[[str], None]) -> Callable[[str], None]:
    """Let `say` reach the standard error that is there now, from within `quiet` as well."""
    stderr = sys.stderr

    def speak(text: str) -> None:
        with contextlib.redirect_stderr(stderr):
            say(text)

    return speak


@contextlib.contextmanager
def mute() -> Iterator[None]:
    """Drop what C++ code inside writes to the terminal, behind Python's back; process-wide as well."""
    kept = [os.dup(1), os.dup(2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for descriptor in (1, 2):
            os.dup2(nowhere, descriptor)
        yield
    finally:
        with contextlib.suppress(OSError, TypeError):  # Windows has no library without a name
            ctypes.CDLL(None).fflush(None)
        for descriptor, before in zip((1, 2), kept, strict=True):
            os.dup2(before, descriptor)
            os.close(before)
        os.close(nowhere)


def reason(exc: BaseException) -> str:
    """Return the first line of what an exception was caused by in the end."""
    while exc.__cause__ is not None:
        exc = exc.__cause__
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    text = lines[0].rstrip(".") if lines else type(exc).__name__
    # Where we put a file for a moment helps nobody, and differs from time to time.
    text = re.sub(r"\S*[/\\]zoo-(onnx|int8)-\w+[/\\]", "", text)
    return text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 3] + "..."
