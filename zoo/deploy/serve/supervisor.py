"""The process that was started: it holds the port, starts those that answer, replaces one that dies, ends them."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prometheus_client.multiprocess import mark_process_dead

from zoo.deploy.serve.metrics import FOLDER
from zoo.deploy.serve.settings import LIFELINE, SOCKET
from zoo.errors import Elsewhere, EnvironmentBroken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zoo.deploy.serve.settings import Settings

TICK_SECONDS = 0.1
PAUSE_SECONDS = 1.0
"""Between the end of a process and its replacement, so that one which cannot live takes no core."""
SPARE_SECONDS = 5.0


@dataclass(eq=False)
class _Child:
    process: subprocess.Popen[bytes]
    lifeline: socket.socket
    heard: bytes = b""
    ready: bool = False


def listen(settings: Settings) -> socket.socket:
    """Take the port.

    Raises:
        EnvironmentBroken: somebody else has it, or it cannot be had.
    """
    where = (settings.host, settings.port)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    taken = socket.socket(family)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(where)
    except (OSError, OverflowError) as exc:
        taken.close()
        reason = getattr(exc, "strerror", None) or exc
        raise EnvironmentBroken(
            f"cannot listen on {settings.host} port {settings.port}: {reason}; name another with --host and --port"
        ) from exc
    return taken


def address(listening: socket.socket) -> str:
    """Return the URL of what listens."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Supervisor:
    """Runs until a signal, or until the model cannot be loaded.

    Args:
        settings: What is served, and how.
        listening: As `listen` returned it; closed at the end.
        ready: Gets the model's SHA-256 once every process answers.
    """

    def __init__(self, settings: Settings, listening: socket.socket, ready: Callable[[str], None]) -> None:
        self._settings, self._listening, self._tell_ready = settings, listening, ready
        self._children: list[_Child] = []
        self._selector = selectors.DefaultSelector()
        self._signals = 0
        self._announced = False
        self._due: list[float] = []
        """When processes are started in the place of those that died."""

    def run(self) -> None:
        """Serve.

        Raises:
            Elsewhere: a process could not load the model, and has said why.
            EnvironmentBroken: requests had to be cut off at the end.
        """
        with tempfile.TemporaryDirectory(prefix="zoo-serve-") as counters, self._hearing_signals():
            self._counters = counters
            self._children = [self._start() for _ in range(self._settings.workers)]
            while not self._signals:
                self._hear()
                self._replace_dead()
            self._end()

    def _start(self) -> _Child:
        ours, theirs = socket.socketpair()
        inherited = (self._listening.fileno(), theirs.fileno())
        environment = {
            **os.environ,
            **self._settings.to_environment(),
            SOCKET: str(inherited[0]),
            LIFELINE: str(inherited[1]),
            FOLDER: self._counters,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "zoo.deploy.serve.process"],
            env=environment,
            pass_fds=inherited,
            stdin=subprocess.DEVNULL,
            # Ctrl-C reaches a whole group; whom it ends when is decided here.
            start_new_session=True,
        )
        theirs.close()
        child = _Child(process, ours)
        self._selector.register(ours, selectors.EVENT_READ, child)
        return child

    def _hear(self) -> None:
        for key, _ in self._selector.select(TICK_SECONDS):
            child: _Child = key.data
            said = child.lifeline.recv(4096)
            child.heard += said
            if not said:
                self._selector.unregister(child.lifeline)
            elif child.heard.endswith(b"\n"):
                child.ready = True
        if not self._announced and all(child.ready for child in self._children):
            self._announced = True
            self._tell_ready(json.loads(self._children[0].heard)["model"])

    def _replace_dead(self) -> None:
        for child in [child for child in self._children if child.process.poll() is not None]:
            code = child.process.returncode
            self._bury(child)
            if not self._announced:
                self._stop_all()
                if code <= 0:
                    raise EnvironmentBroken(f"a process of the server was killed by signal {-code} while it started")
                raise Elsewhere(code)
            print(f"zoo: process {child.process.pid} of the server ended with {code}; another starts", file=sys.stderr)
            self._due.append(time.monotonic() + PAUSE_SECONDS)
        while self._due and time.monotonic() >= self._due[0]:
            del self._due[0]
            self._children.append(self._start())

    def _bury(self, child: _Child) -> None:
        self._children.remove(child)
        with contextlib.suppress(KeyError):
            self._selector.unregister(child.lifeline)
        child.lifeline.close()
        mark_process_dead(child.process.pid, self._counters)  # type: ignore[no-untyped-call]

    def _end(self) -> None:
        # The others hold it too, and the last of them closes it when nothing waits in it any more.
        self._listening.close()
        settings = self._settings
        most = settings.drain_seconds + settings.head_seconds + settings.body_seconds + settings.answer_seconds
        until, heard = time.monotonic() + most + SPARE_SECONDS, 1
        self._signal_all(signal.SIGTERM)
        while any(child.process.poll() is None for child in self._children):
            if self._signals > heard:
                heard = self._signals
                self._signal_all(signal.SIGTERM)
            if time.monotonic() > until:
                self._signal_all(signal.SIGKILL)
            time.sleep(TICK_SECONDS / 2)
        codes = [child.process.returncode for child in self._children]
        for child in list(self._children):
            self._bury(child)
        if any(codes):
            raise EnvironmentBroken("requests were cut off when the server ended; give it more time to end")

    def _stop_all(self) -> None:
        self._signal_all(signal.SIGKILL)
        for child in list(self._children):
            child.process.wait()
            self._bury(child)
        self._listening.close()

    def _signal_all(self, number: int) -> None:
        for child in self._children:
            if child.process.poll() is None:
                child.process.send_signal(number)

    @contextlib.contextmanager
    def _hearing_signals(self) -> Iterator[None]:
        def count(*_: Any) -> None:
            self._signals += 1

        before = {number: signal.signal(number, count) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
