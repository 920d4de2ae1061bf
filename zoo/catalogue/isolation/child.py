"""What runs in the process of its own: import one plugin, ask it a first question, and write down how it went.

Started by path, so it imports nothing of zoo but its neighbour, and nothing beside the standard library.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import os
import random
import signal
import sys
import sysconfig
import threading
import time
import warnings
from pathlib import Path
from typing import Any, ClassVar

TICK = 0.1
ASLEEP_SECONDS = 2.0
BUSY_SECONDS = 2.0
"""Of processor time without a single further import: torch, timm and albumentations never need a quarter of one."""
AWAKE_SHARE = 0.02
"""Of the processor; below it a process waits. A busy machine leaves one that computes more."""
MEMORY_GB = 8.0
WRITING = frozenset("wax+")


class Watch(threading.Thread):
    """Hears every import, and ends the process once nothing more comes of it."""

    def __init__(self, report: Path, package: str) -> None:
        super().__init__(daemon=True)
        self.report = report
        self.package = package
        self.imports = 0
        self.effects: set[str] = set()
        self.main = threading.get_ident()
        self.on = False

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take an audit event of the interpreter."""
        if not self.on:
            return
        if event == "import":
            self.imports += 1
            return
        effect = ""
        if event == "socket.connect":
            effect = "uses the network"
        elif event in ("subprocess.Popen", "os.system", "os.fork", "os.posix_spawn"):
            effect = "starts a process"
        elif event == "open" and _writes(*arguments):
            effect = f"writes {arguments[0]}"
        elif event in ("os.mkdir", "os.remove", "os.rename", "os.rmdir"):
            effect = f"changes {arguments[0]}"
        if effect and self.is_the_plugin(sys._getframe(1)):
            self.effects.add(effect)

    def is_the_plugin(self, frame: Any) -> bool:
        """Tell whether the plugin's own package is the nearest caller; what a library does at import is its affair."""
        caller = _outside_the_library(frame)
        return bool(caller) and str(caller.f_globals.get("__name__", "")).partition(".")[0] == self.package

    def run(self) -> None:
        """Look at every tick; one that a loading library held up does not count."""
        imports, ticks, processor = self.imports, 0, time.process_time()
        while True:
            time.sleep(TICK)
            ticks += 1
            if self.imports != imports:
                imports, ticks, processor = self.imports, 0, time.process_time()
            spent = time.process_time() - processor
            if spent >= BUSY_SECONDS:
                self.stop(f"hangs at import: {self.place()} computes without end")
            if ticks * TICK >= ASLEEP_SECONDS and spent < AWAKE_SHARE * ticks * TICK:
                self.stop(f"hangs at import: {self.place()} waits without end")
            if _resident_gb() > MEMORY_GB:
                self.stop(f"takes more than {MEMORY_GB:g} GB of memory at import, at {self.place()}")

    def stop(self, reason: str) -> None:
        """Write down why, and end the process."""
        write(self.report, reason, [])
        os._exit(0)

    def place(self) -> str:
        """Return file and line of the innermost frame that is not the standard library's."""
        frame = _outside_the_library(sys._current_frames().get(self.main))
        return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}" if frame else "it"


class Newly:
    """Notes the random state of numpy and torch right after each was loaded: both seed themselves anew each time."""

    states: ClassVar[dict[str, object]] = {}

    def __init__(self) -> None:
        self.waiting = {"numpy", "torch"}

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        """Find the library as everybody else would, and wrap what runs it."""
        if name not in self.waiting:
            return None
        self.waiting.remove(name)
        spec = importlib.util.find_spec(name)
        if spec and spec.loader:
            run = spec.loader.exec_module

            def run_and_note(module: Any) -> None:
                run(module)
                Newly.states[name] = random_state(name)

            spec.loader.exec_module = run_and_note  # type: ignore[method-assign]
        return spec


def random_state(name: str) -> object:
    """Return the state of numpy's or torch's global generator; None if the library is not loaded."""
    library: Any = sys.modules.get(name)
    if library is None:
        return None
    return repr(library.random.get_state()) if name == "numpy" else bytes(library.get_rng_state())


def _outside_the_library(frame: Any) -> Any:
    """Return the innermost frame from `frame` outwards that is not the standard library's; None if there is none."""
    library = (sysconfig.get_path("stdlib"), "<frozen", __file__)
    while frame and frame.f_code.co_filename.startswith(library) and "site-packages" not in frame.f_code.co_filename:
        frame = frame.f_back
    return frame


def _is_blanket(rule: Any) -> bool:
    """Tell a filter for everybody's warnings from a library's for its own texts, modules or categories."""
    return rule[1] is None and rule[3] is None and rule[2].__module__ == "builtins"


def _writes(path: object, mode: object, flags: object) -> bool:
    return isinstance(path, str) and not path.startswith(("/dev/", "/proc/")) and is_writing(mode, flags)


def is_writing(mode: object, flags: object) -> bool:
    """Tell from an audit event's mode and flags whether a file is opened to be written."""
    by_mode = isinstance(mode, str) and bool(WRITING & set(mode))
    return by_mode or (isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR)))


def _resident_gb() -> float:
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def state() -> dict[str, object]:
    """Return everything that an import must leave as it is, by the words for a change of it."""
    return {
        "changes the working folder": os.getcwd(),  # noqa: PTH109 - the plugin may have removed it
        "changes the random state of Python": random.getstate(),
        "changes the random state of numpy": random_state("numpy"),
        "changes the random state of torch": random_state("torch"),
        "changes which warnings are shown": [f for f in warnings.filters if _is_blanket(f)],
        "changes how signals are handled": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "changes the handlers of the root logger": list(logging.root.handlers),
        "changes how errors are reported": sys.excepthook,
        "starts a thread": [t for t in threading.enumerate() if not t.daemon],
    }


def write(report: Path, reason: str, effects: list[str]) -> None:
    """Write the verdict."""
    report.write_text(json.dumps({"reason": reason, "effects": effects}))


def why(exc: BaseException, when: str) -> str:
    """Return what an exception says, in one line."""
    if isinstance(exc, SystemExit):
        return f"ends the program {when} (SystemExit {exc.code})"
    if isinstance(exc, ModuleNotFoundError) and exc.name:
        return f"needs {exc.name}, which is not installed; run `pip install {exc.name.partition('.')[0]}`"
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return f"raises {type(exc).__name__} {when}" + (f": {lines[0]}" if lines else "")


def ask(kind: str, loaded: Any) -> None:
    """Make what takes no arguments, and ask it what every listing and every export would ask first."""
    if kind == "backbone family":
        family = loaded()
        family.knows(next(iter(family.names()), ""))
    elif kind == "exporter":
        loaded().precisions  # noqa: B018 - a property may raise


def load(value: str) -> object:
    """Import what an entry point names."""
    module, _, attribute = value.partition(":")
    found: object = importlib.import_module(module)
    for name in attribute.split("."):
        found = getattr(found, name)
    return found


def main(value: str, kind: str, path: str, report: Path) -> None:
    """Import the plugin, ask it a first question, and write down what happened."""
    import malformed  # type: ignore[import-not-found]  # the neighbour, by its bare name

    malformed.spare_libraries()
    sys.path[:] = json.loads(path)
    sys.dont_write_bytecode = True
    sys.meta_path.insert(0, Newly())
    watch = Watch(report, value.partition(".")[0].partition(":")[0])
    sys.addaudithook(watch.hear)
    before = state()
    watch.start()
    watch.on = True
    when, reason = "at import", ""
    try:
        loaded = load(value)
        when = "when it is made or asked"
        ask(kind, loaded)
    except BaseException as exc:
        reason = why(exc, when)
    watch.on = False
    after = state()
    # What was not loaded before is compared with how it was right after loading.
    for library, was in Newly.states.items():
        before[f"changes the random state of {library}"] = was
    changed = [words for words, was in before.items() if after[words] != was]
    write(report, reason, [*changed, *sorted(watch.effects)])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # neither a thread nor an exit handler of the plugin may hold us up


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]))
