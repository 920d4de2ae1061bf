"""What tests need beside Python: a browser, Node, a compiler, another Debian; where `CI` is set they must be there."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


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


def call(*command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a command that has to succeed; return what it printed."""
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout
