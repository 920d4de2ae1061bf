"""A test process with a time limit, and its verdicts as they come: none is lost when it crashes or hangs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

PLACE = "ZOO_VERDICTS"
"""The environment variable by which `zoo.testing.verdicts` learns where to write: one JSON object a line."""
RUN = """
import sys
from zoo.catalogue.isolation.malformed import spare_libraries
spare_libraries()  # pytest, too, reads every distribution's entry points
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One promise, judged."""

    plugin: str
    promise: str
    verdict: str
    """"kept", "broken", or "not reached" when a crash or the time limit came before."""
    reason: str = ""
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Suite:
    """What to run: test files, and what must stand on the path for them."""

    tests: Path
    path: tuple[Path, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    """Test class -> the plugin that it is about."""


def judge(suite: Suite, scratch: Path, seconds: float, hear: Callable[[Verdict], None]) -> list[Verdict]:
    """Run a suite of tests and return a verdict for each, at the latest after `seconds`."""
    log, output = scratch / "verdicts.jsonl", scratch / "output.txt"
    log.touch()
    paths = [*map(str, suite.path), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, PLACE: str(log), "PYTHONPATH": os.pathsep.join(paths)}
    config = ["-c", os.devnull, "--rootdir", str(scratch), "--import-mode=importlib", "-p", "no:cacheprovider", "-q"]
    command = [sys.executable, "-c", RUN, *config, "-p", "zoo.testing.verdicts", str(suite.tests)]
    verdicts = _Log(log, suite.names, hear)
    with output.open("w") as file:
        process = subprocess.Popen(
            command, cwd=scratch, env=env, stdout=file, stderr=file, stdin=subprocess.DEVNULL, start_new_session=True
        )
        try:
            ended = _wait(process, time.monotonic() + seconds, verdicts.read)
        finally:
            _end(process)
    verdicts.read()
    why = _died(process.returncode) if ended else f"no answer within {seconds:g} s"
    # What pytest said last tells why it ended by itself; of one that was ended, the limit tells more.
    return verdicts.all(why, output.read_text()[-2000:] if ended else why)


class _Log:
    """The file that the process writes its verdicts to, read while it grows."""

    def __init__(self, file: Path, names: Mapping[str, str], hear: Callable[[Verdict], None]) -> None:
        self._file = file
        self._names = names
        self._set_up: dict[str, float] = {}
        self._hear = hear
        self._lines = 0
        self._asked: dict[str, Verdict | None] = {}
        self._running = ""

    def read(self) -> None:
        """Take the lines that were added."""
        whole, _, _ = self._file.read_text().rpartition("\n")  # the last line may be half written
        lines = whole.splitlines()
        for line in lines[self._lines :]:
            fact = json.loads(line)
            node, said = fact["promise"], fact["verdict"]
            self._running = node if said == "running" else self._running
            self._asked.setdefault(node, None)
            if said == "set up":
                self._set_up[node] = fact["seconds"]
            elif said in ("kept", "broken"):
                seconds = self._set_up.get(node, 0.0) + fact.get("seconds", 0.0)
                verdict = self._verdict(node, said, fact.get("reason", ""), seconds)
                self._asked[node] = verdict
                self._hear(verdict)
        self._lines = len(lines)

    def all(self, why: str, output: str) -> list[Verdict]:
        """Return a verdict for each promise, also for those that were not reached, and why."""
        if not self._asked:
            last = next((line for line in reversed(output.splitlines()) if line.strip()), "no output")
            return [Verdict(plugin="", promise="the tests can be run", verdict="broken", reason=last.strip("= "))]
        missing = {node: "broken" if node == self._running else "not reached" for node in self._asked}
        return [
            found or self._verdict(node, missing[node], why if missing[node] == "broken" else "")
            for node, found in self._asked.items()
        ]

    def _verdict(self, node: str, verdict: str, reason: str = "", seconds: float = 0.0) -> Verdict:
        file, *parts = node.split("::")
        owner, promise = (parts[-2] if len(parts) > 1 else file), (parts[-1] if parts else file)
        plugin = self._names.get(owner, owner.removeprefix("Test"))
        words = promise.removeprefix("test_").replace("_", " ")
        return Verdict(plugin=plugin, promise=words, verdict=verdict, reason=reason, seconds=round(seconds, 2))


def _wait(process: subprocess.Popen[bytes], deadline: float, look: Callable[[], None]) -> bool:
    """Wait for the process, looking from time to time; False if the deadline came first."""
    while process.poll() is None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
        look()
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and all that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()
        process.wait()


def _died(code: int) -> str:
    return f"crashed with {signal.Signals(-code).name}" if code < 0 else f"ended the process (exit code {code})"
