"""Saying that something goes: what, in which version, and what to write instead."""

from __future__ import annotations

import warnings


def deprecated(old: str, *, instead: str, goes_in: str, stacklevel: int = 2) -> None:
    """Warn the caller of the function that calls this.

    Args:
        old: What is deprecated, as a user writes it.
        instead: What to write now.
        goes_in: The version of edgezoo (or of the plugin's own distribution) in which the old stops to work.
        stacklevel: As for `warnings.warn`, counted from the function that calls this.
    """
    text = f"{old} is deprecated and goes in version {goes_in}; write {instead}"
    warnings.warn(text, DeprecationWarning, stacklevel=stacklevel + 1)
