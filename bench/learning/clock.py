"""Processor time of a side, whatever the machine does besides."""

from __future__ import annotations

import resource


def cpu_seconds() -> float:
    """Return CPU seconds of this process, all its threads, and its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
