"""Asking a question in a new process: nothing loaded, empty folders, what it writes and whom it calls under watch."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.catalogue.isolation.child import is_writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECONDS = 300
BOOT = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from zoo.catalogue.isolation.malformed import spare_libraries
spare_libraries()
from zoo.testing.fresh import answer
answer(sys.argv[2])
"""


@dataclass(frozen=True)
class Outcome:
    """What came back."""

    result: Any
    """The function's answer, as JSON carries it."""
    stdout: str
    stderr: str


def fresh(
    function: Callable[..., Any], *arguments: Any, folder: Path, offline: bool = False, hash_seed: int = 0
) -> Outcome:
    """Call a module's function in a new process, whose home, temporary and working folder are empty ones in `folder`.

    Raises:
        AssertionError: it raised, ended the process or gave no answer; what it said is in the message.
    """
    places = {name: folder / name for name in ("home", "tmp", "cwd")}
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    question, report = folder / "question.json", folder / "answer.json"
    report.unlink(missing_ok=True)
    facts = [function.__module__, function.__name__, list(arguments), offline, str(report)]
    question.write_text(json.dumps(facts))
    env = {**os.environ, "HOME": str(places["home"]), "TMPDIR": str(places["tmp"]), "PYTHONHASHSEED": str(hash_seed)}
    path = json.dumps([entry or str(Path.cwd()) for entry in sys.path])
    done = subprocess.run(
        [sys.executable, "-B", "-W", "ignore", "-c", BOOT, path, str(question)],
        cwd=places["cwd"],
        env=env,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert report.is_file(), f"in a new process it ends with exit code {done.returncode}: {done.stderr[-500:]}"
    found = json.loads(report.read_text())
    assert "error" not in found, f"in a new process it raises {found['error']}"
    return Outcome(found["result"], done.stdout, done.stderr)


def answer(question: str) -> None:
    """Run in the new process: call the function that is asked for, and write its answer down."""
    module, name, arguments, offline, report = json.loads(Path(question).read_text())
    sys.addaudithook(_hear)
    function = getattr(importlib.import_module(module), name)
    _Watched.offline = offline
    try:
        found = {"result": function(*arguments)}
    except BaseException as exc:
        found = {"error": f"{type(exc).__name__}: {exc}"}
    Path(report).write_text(json.dumps(found))


@contextlib.contextmanager
def watching_writes() -> Iterator[list[str]]:
    """Yield a list that fills with the path of whatever is opened for writing, made, moved or removed inside.

    Only in a process of `fresh`; temporary files and devices are left out.
    """
    written: list[str] = []
    _Watched.written = written
    try:
        yield written
    finally:
        _Watched.written = None
        spared = (os.environ["TMPDIR"], "/dev/", "/proc/")
        written[:] = sorted({path for path in written if not path.startswith(spared)})


class _Watched:
    offline = False
    written: list[str] | None = None


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.getaddrinfo") and _Watched.offline:
        raise OSError(f"the network was asked for ({event}), and there is none")
    if _Watched.written is not None:
        _Watched.written += _changed(event, arguments)


def _changed(event: str, arguments: tuple[Any, ...]) -> list[str]:
    """Return the places that an audit event makes, changes or removes."""
    if event == "open":
        return [_absolute(arguments[0])] if is_writing(*arguments[1:3]) and not isinstance(arguments[0], int) else []
    if event in ("os.mkdir", "os.remove", "os.rmdir"):
        place = _absolute(arguments[0], arguments[-1])
        # `exist_ok` and `missing_ok` ask for what is there, or gone, already.
        return [place] if os.path.lexists(place) != (event == "os.mkdir") else []
    if event == "os.rename":
        return [_absolute(path, folder) for path, folder in zip(arguments[:2], arguments[2:], strict=True)]
    if event in ("os.link", "os.symlink"):
        return [_absolute(arguments[1], arguments[-1])]
    return [_absolute(arguments[0])] if event == "os.truncate" and not isinstance(arguments[0], int) else []


def _absolute(path: Any, folder: int = -1) -> str:
    """Return a path without `..`; `folder` is the descriptor that it is relative to, as `shutil.rmtree` has it."""
    base = Path(f"/proc/self/fd/{folder}").resolve() if folder >= 0 else Path.cwd()
    return os.path.normpath(base / os.fsdecode(path))


@contextlib.contextmanager
def listing_backwards() -> Iterator[None]:
    """Give the entries of every folder in the opposite order: another file system has another one."""
    listdir, scandir = os.listdir, os.scandir

    class Backwards:
        def __init__(self, path: Any = ".") -> None:
            with scandir(path) as entries:
                self.entries = iter([*entries][::-1])

        def __iter__(self) -> Iterator[Any]:
            return self.entries

        def __next__(self) -> Any:
            return next(self.entries)

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            self.close()

        def close(self) -> None:
            self.entries = iter(())

    patched: Any = os
    patched.listdir, patched.scandir = lambda path=".": listdir(path)[::-1], Backwards
    try:
        yield
    finally:
        patched.listdir, patched.scandir = listdir, scandir
