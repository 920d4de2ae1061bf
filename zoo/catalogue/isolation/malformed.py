"""A distribution whose entry_points.txt cannot be read, kept from everybody who asks for entry points.

Python's `entry_points()` fails for all at the first such file, and with it the import of torch, triton and others.
Standard library only: the process that tries a plugin loads this file by its path.
"""

from __future__ import annotations

import importlib.metadata


def entry_points_of(distribution: importlib.metadata.Distribution) -> list[importlib.metadata.EntryPoint]:
    """Return a distribution's entry points; raises whatever Python does for a malformed list."""
    return list(_READ.__get__(distribution))


def spare_libraries() -> None:
    """From now on, in this process, let a list that cannot be read stand for an empty one."""
    importlib.metadata.Distribution.entry_points = property(_or_none)  # type: ignore[assignment]


_READ = importlib.metadata.Distribution.entry_points


def _or_none(distribution: importlib.metadata.Distribution) -> importlib.metadata.EntryPoints:
    try:
        return importlib.metadata.EntryPoints(entry_points_of(distribution))
    except Exception:
        return importlib.metadata.EntryPoints()
