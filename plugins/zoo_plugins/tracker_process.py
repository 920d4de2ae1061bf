"""A tracker's library in a process of its own: what it does to its process cannot reach training.

Some libraries start threads and services, set hooks, write into the home folder and report to their makers; what they
leave alone is decided by their environment, before their import. Here they get one, and hear of the run line by line.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Protocol

from zoo.errors import EnvironmentBroken, first_line
from zoo_plugins.tracker_numbers import numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

SECONDS = 120
"""How long one message may take; a library that hangs longer is dropped, and the run goes on."""
BOOT = "import sys; sys.path[:] = {path!r}; from {module} import {name}; from {here} import serve; serve({name})"


class Session(Protocol):
    """What a tracker does with its library, inside the process of its own."""

    def epoch(self, metrics: dict[str, float]) -> None:
        """Take the numbers of an epoch; "epoch" is among them."""

    def numbers(self, metrics: dict[str, float]) -> None:
        """Take numbers that belong to the whole run."""

    def end(self, finished: bool) -> None:
        """Close; the run may go on later if it is not finished."""


class TrackerProcess:
    """The other process: started with the first message, gone with the last."""

    def __init__(self, session: type, environment: Mapping[str, str], opening: Mapping[str, object]) -> None:
        boot = BOOT.format(path=sys.path, module=session.__module__, name=session.__name__, here=__name__)
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", boot],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Ctrl-C is for the run, which then tells its trackers.
            start_new_session=True,
        )
        self.tell("open", opening)

    def tell(self, verb: str, payload: Mapping[str, object]) -> None:
        """Send one message and wait until it is done.

        Raises:
            EnvironmentBroken: the library raised, hangs or is gone; the process is ended.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(json.dumps([verb, payload], default=str).encode() + b"\n")
            stdin.flush()
            ready, _, _ = select.select([stdout], [], [], SECONDS)
            answer = json.loads(stdout.readline() or '"its process has ended"') if ready else "it does not answer"
        except OSError as exc:
            answer = f"its process has ended: {exc.strerror}"
        if answer:
            self.stop()
            raise EnvironmentBroken(str(answer))

    def stop(self) -> None:
        """End the process, at once if it does not end by itself."""
        with contextlib.suppress(OSError):
            if self._process.stdin:
                self._process.stdin.close()
        try:
            self._process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()


class TrackerOfAProcess:
    """A tracker that tells a process of its own what it hears; its `start` opens it."""

    def _open(self, session: type, environment: Mapping[str, str], opening: Mapping[str, object]) -> None:
        self._proved = False
        self._process = TrackerProcess(session, environment, opening)

    def epoch(self, metrics: Mapping[str, float | int]) -> None:
        """Add a point to each curve."""
        self._process.tell("epoch", {"metrics": numbers(metrics)})

    def artifact(self, folder: Path, report: Mapping[str, object]) -> None:
        """Add what the proof of an artifact measured; only a finished run has one."""
        self._proved = True
        self._process.tell("numbers", {"metrics": numbers(report, f"{folder.name}/")})

    def end(self, metrics: Mapping[str, object]) -> None:
        """Add the final metrics, and close."""
        self._process.tell("numbers", {"metrics": numbers(metrics, "final/")})
        self._process.tell("end", {"finished": bool(metrics) or self._proved})
        self._process.stop()


def serve(make: Callable[..., Session]) -> None:
    """Do what the lines of stdin say, and answer each: "" for done, else what went wrong; runs in the process.

    The end of stdin without a last message is the end of a run that was killed.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lines, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    # Whatever a library prints is no answer, and no result of the run's either.
    os.dup2(2, 1)
    session: Any = None
    for line in lines:
        verb, payload = json.loads(line)
        try:
            if verb == "open":
                session = make(**payload)
            else:
                getattr(session, verb)(**payload)
            answer = ""
        except BaseException as exc:
            answer = f"{type(exc).__name__}: {first_line(exc)}"
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        if verb == "end":
            return
    with contextlib.suppress(Exception):
        session.end(finished=False)
