"""Keep OpenVINO and NNCF from writing, warning, logging and phoning home, and boil their exceptions down to a line."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_REASON = 240
FRAMES = ("Exception from ", "Check '", "FrontEnd API failed", "Model wasn't fully converted")
"""How the lines begin in which OpenVINO says where in its own source something happened."""
CULPRIT = "No conversion rule found"
"""In the line that says more than those above it."""


def load(library: str) -> None:
    """Import a library without a word, before stdout is redirected: NNCF logs for good to the one that it finds."""
    with _unseen():
        importlib.import_module(library)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Let nothing of what runs inside be seen; process-wide, so keep it around exports only."""
    with _unseen(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


@contextlib.contextmanager
def _unseen() -> Iterator[None]:
    with _offline(), _unlogged(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    # Importing openvino, importing nncf and converting each report to Google Analytics and leave an id in HOME. All
    # three ask for leave anew, and are told no on a machine for continuous integration: nothing else has to be written.
    before = os.environ.get("CI")
    os.environ["CI"] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ["CI"]
        else:
            os.environ["CI"] = before


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    # Beside logging, nncf makes its class the one of every later logger, and a conversion that fails leaves openvino's
    # level, filter and handler on the root logger.
    root, made, disabled = logging.getLogger(), logging.getLoggerClass(), logging.root.manager.disable
    level, filters, handlers = root.level, root.filters[:], root.handlers[:]
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(disabled)
        logging.setLoggerClass(made)
        root.setLevel(level)
        root.filters[:], root.handlers[:] = filters, handlers


def reason(exc: BaseException) -> str:
    """Return the line of an exception that tells a user most."""
    lines = [line.strip().lstrip("- ").rstrip(".") for line in str(exc).splitlines()]
    lines = [line for line in lines if line and not line.startswith(FRAMES)]
    text = next((line for line in lines if line.startswith(CULPRIT)), lines[0] if lines else type(exc).__name__)
    return text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 3] + "..."
