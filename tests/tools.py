"""What tests need beside Python: a browser, Node, a compiler, another Debian; where `CI` is set they must be there."""

from __future__ import annotations

import os
import shutil

import pytest


def tool(name: str) -> str:
    """Return a program's path; without it the test is skipped on somebody's own machine, and fails elsewhere."""
    found = shutil.which(name)
    if found is None:
        missing(f"{name} is not installed")
    assert found
    return found


def missing(why: str) -> None:
    """Say what is missing: fail where `CI` is set, else skip."""
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)
