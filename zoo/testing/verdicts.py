"""A pytest plugin for `zoo plugin check`: writes down each promise once it is judged, so that a crash loses none."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from zoo.testing.authoring.judge import PLACE

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tell what will be asked."""
    for item in items:
        _write(item.nodeid, "asked")


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Tell what could not even be collected."""
    if report.failed:
        _write(report.nodeid, "broken", reason=_reason(report))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Tell what is being asked now."""
    _write(item.nodeid, "running")
    return (yield)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Tell the verdict; a fixture that fails breaks the promise that asked for it."""
    if report.failed:
        _write(report.nodeid, "broken", reason=_reason(report), seconds=report.duration)
    elif report.when == "setup":
        _write(report.nodeid, "set up", seconds=report.duration)
    elif report.when == "call":
        _write(report.nodeid, "kept", seconds=report.duration)


def _write(promise: str, verdict: str, **more: object) -> None:
    with Path(os.environ[PLACE]).open("a") as file:
        file.write(json.dumps({"promise": promise, "verdict": verdict, **more}) + "\n")


def _reason(report: pytest.CollectReport | pytest.TestReport) -> str:
    """Return the message of the exception, without pytest's own account of the assertion."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = str(crash.message if crash else report.longrepr).strip()
    lines = [line for line in text.splitlines() if line.strip()]
    first = lines[0] if crash else lines[-1]
    return first.removeprefix("AssertionError: ").removeprefix("E ").strip()
