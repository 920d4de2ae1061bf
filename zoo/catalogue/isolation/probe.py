"""A plugin's first import, tried in a timed process of its own; the verdict is remembered until the plugin changes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.catalogue.isolation.reading import find_source
from zoo.disk.files import write_json
from zoo.disk.home import zoo_home
from zoo.errors import EnvironmentBroken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zoo.catalogue.installed import Plugin

LONGEST_SECONDS = 60
"""Where the watch inside the process cannot see: compiled code that holds the interpreter."""
AT_ONCE = 8
RULES = 2
"""Counts up when more is tried, so that older verdicts are not believed."""
CHILD = Path(__file__).with_name("child.py")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one import did."""

    reason: str = ""
    """Why the plugin cannot be used; empty if it can."""
    effects: tuple[str, ...] = ()
    """What it did to its process beside being imported, each as "changes the working folder"."""


def probe(plugin: Plugin) -> Verdict:
    """Import a plugin in a new process, remember what happened and return it; raises nothing."""
    verdict = _import_apart(plugin)
    _remember(plugin, verdict)
    return verdict


def probe_all(plugins: Sequence[Plugin]) -> list[Verdict]:
    """Probe several at once, so that one that hangs holds up no other."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(probe, plugins))


def remembered(plugin: Plugin) -> Verdict | None:
    """Return the verdict of an earlier probe; None if there is none, or the plugin has changed since."""
    try:
        found = json.loads(_memory(plugin).read_text())
        return Verdict(reason=found["reason"], effects=tuple(found["effects"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _import_apart(plugin: Plugin) -> Verdict:
    with tempfile.TemporaryDirectory(prefix="zoo-probe-") as folder:
        report = Path(folder, "report.json")
        path = json.dumps([entry or str(Path.cwd()) for entry in sys.path])
        command = [sys.executable, str(CHILD), plugin.entry_point.value, plugin.kind, path, str(report)]
        try:
            done = subprocess.run(
                command, capture_output=True, timeout=LONGEST_SECONDS, cwd=folder, stdin=subprocess.DEVNULL, check=False
            )
        except subprocess.TimeoutExpired:
            return Verdict(reason=f"hangs at import: no answer within {LONGEST_SECONDS} s")
        except OSError as exc:
            return Verdict(reason=f"cannot be tried: {exc.strerror or exc}")
        try:
            found = json.loads(report.read_text())
        except (OSError, ValueError):
            return Verdict(reason=_died(done.returncode))
        printed = ["prints"] if done.stdout.strip() or done.stderr.strip() else []
        own = [effect for effect in found["effects"] if not effect.startswith(f"writes {folder}")]
        return Verdict(reason=found["reason"], effects=(*printed, *own))


def _died(code: int) -> str:
    if code < 0:
        return f"crashes at import with {signal.Signals(-code).name}"
    return f"ends the process at import (exit code {code})"


def _remember(plugin: Plugin, verdict: Verdict) -> None:
    # A home that cannot be written costs a probe each time, and nothing else.
    with contextlib.suppress(EnvironmentBroken):
        write_json(_memory(plugin), asdict(verdict))


def _memory(plugin: Plugin) -> Path:
    """Name the file after all that may change the verdict."""
    try:
        source = find_source(plugin.entry_point.value.partition(":")[0])
        stat = source.stat() if source else None
    except (LookupError, OSError):
        source, stat = None, None
    facts = (
        RULES,
        sys.version,
        plugin.owner,
        plugin.entry_point.value,
        str(source),
        stat and (stat.st_mtime_ns, stat.st_size),
    )
    return zoo_home() / "probes" / f"{hashlib.sha256(repr(facts).encode()).hexdigest()[:32]}.json"
