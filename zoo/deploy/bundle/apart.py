"""A few lines of Python in a process of their own, for what must not happen in this one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from zoo.errors import EnvironmentBroken


def run_apart(code: str, *arguments: str, failed: str) -> str:
    """Run code with arguments, and return what it printed.

    Raises:
        EnvironmentBroken: it failed; the text begins with `failed` and tells the last line of why.
    """
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise EnvironmentBroken(f"{failed}: {said[-1] if said else 'no reason given'}")
    return done.stdout
