"""Licences of code, weights and data: told where they are known, refused before a download where the user says so."""

from __future__ import annotations

import importlib.metadata
import re
from typing import TYPE_CHECKING

from zoo.errors import LicenseRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

UNKNOWN = "unknown"


def code_license(distribution: str) -> str:
    """Return the licence that a distribution's metadata states; "unknown" if it states none."""
    try:
        metadata = importlib.metadata.metadata(distribution)
    except importlib.metadata.PackageNotFoundError:
        return UNKNOWN
    stated = metadata["License-Expression"] or metadata["License"] or ""
    classifiers = [c.rpartition(" :: ")[2] for c in metadata.get_all("Classifier") or [] if c.startswith("License ::")]
    # Some put the whole text into the old License field.
    return stated if stated and "\n" not in stated else " AND ".join(classifiers) or UNKNOWN


def refuse_license(what: str, stated: str, allowed: Sequence[str]) -> None:
    """Raise LicenseRefused unless the user allows every licence, or takes any because `allowed` is empty.

    Args:
        what: Of what, for the message.
        stated: An SPDX expression; empty means unknown, which must be allowed by that word.
        allowed: SPDX identifiers, in any case.
    """
    known = {license_.strip().lower() for license_ in allowed}
    if not known or _is_allowed((stated or UNKNOWN).lower(), known):
        return
    raise LicenseRefused(
        f"{what} is licensed {stated or UNKNOWN}, which --license-allow {','.join(allowed)} leaves out; "
        "choose another, or allow it"
    )


def _is_allowed(expression: str, known: set[str]) -> bool:
    """Judge `a AND b`, `a OR b` and both without nesting: every part of an AND needs one allowed choice."""
    parts = re.split(r"\s+and\s+", expression.replace("(", " ").replace(")", " "))
    return all(any(choice.strip() in known for choice in re.split(r"\s+or\s+", part)) for part in parts)
