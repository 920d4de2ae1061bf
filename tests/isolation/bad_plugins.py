"""Distributions as nobody should write them, put into a folder that can be laid on PYTHONPATH."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

GOOD_DATASET = """
import numpy as np
from zoo.plugin import Dataset, Split
def plugin(root):
    labels = np.arange(40) % 2
    rng = np.random.default_rng(0)
    images = [rng.integers(150 * label, 150 * label + 100, (8, 8, 3), dtype=np.uint8) for label in labels]
    return Dataset(classes=("dark", "light"), splits={"train": Split(images=images, labels=labels)})
"""
DEADLOCK = "import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()\n"
FOREVER = "import time\ntime.sleep(1000)\ndef plugin(): ...\n"
LINE_BEFORE = "def plugin(root): ...\n"


@dataclass(frozen=True)
class Bad:
    """One distribution, and what must be said of it."""

    name: str
    source: str
    says: str
    """Stands in the reason."""
    state: str = "broken"
    entry_points: str = ""
    """The text of entry_points.txt, with {module}; a dataset of the distribution's name if empty."""
    known_without_import: bool = False


def entry(group: str = "zoo.datasets", name: str = "{module}", value: str = "{module}:plugin") -> str:
    return f"[{group}]\n{name} = {value}\n"


BAD = (
    Bad("raises", "raise RuntimeError('no such\\nlibrary')\n" + LINE_BEFORE, "raises RuntimeError at import: no such"),
    Bad("exits", "import sys\nsys.exit(4)\n" + LINE_BEFORE, "SystemExit 4"),
    Bad("interrupts", "raise KeyboardInterrupt\n" + LINE_BEFORE, "KeyboardInterrupt"),
    Bad("recurses", "def f(): f()\nf()\n" + LINE_BEFORE, "RecursionError"),
    Bad("ends", "import os\nos._exit(3)\n" + LINE_BEFORE, "exit code 3"),
    Bad("crashes", "import ctypes\nctypes.string_at(0)\n" + LINE_BEFORE, "SIGSEGV"),
    Bad("aborts", "import os\nos.abort()\n" + LINE_BEFORE, "SIGABRT"),
    Bad("sleeps", "import time\ntime.sleep(1000)\n" + LINE_BEFORE, "sleeps.py:2 waits without end"),
    Bad("deadlocks", DEADLOCK + LINE_BEFORE, "deadlocks.py:4 waits"),
    Bad("family", FOREVER, "family.py:2 waits", "broken", entry("zoo.backbone_families")),
    Bad("computes", "while True: pass\n" + LINE_BEFORE, "computes.py:1 computes without end"),
    Bad("needs", "import no_such_library\n" + LINE_BEFORE, "needs no_such_library", known_without_import=True),
    Bad("misspelt", "def plugim(root): ...\n", "defines no plugin", known_without_import=True),
    Bad("typo", "def plugin(root:\n", "SyntaxError at typo.py:1", known_without_import=True),
    Bad("newer", "ZOO_API = 3\n" + LINE_BEFORE, "needs version 3", known_without_import=True),
    Bad("elsewhere", "", "module nowhere is not installed", "broken", entry(value="nowhere:plugin"), True),
    Bad("headless", LINE_BEFORE, "cannot be read", "broken", "[zoo.datasets]\nthis is no entry point\n", True),
    Bad("binary", LINE_BEFORE, "cannot be read", "broken", "[zoo.datasets]\n\udcff\udcfe = x:y\n", True),
    Bad("wrong-group", LINE_BEFORE, "should read 'zoo.datasets'", "broken", entry("zoo.dataset"), True),
    Bad("untypable", LINE_BEFORE, "cannot be typed", "broken", entry(name="two words/slash"), True),
    Bad("valueless", LINE_BEFORE, "MODULE:NAME", "broken", entry(value="{module}"), True),
    Bad("thief", GOOD_DATASET, "edgezoo 0.1.0 has this name too", "conflict", entry(name="digits"), True),
    Bad("squatter", "class plugin:\n    precisions = ('fp32',)\n",
        "edgezoo 0.1.0", "conflict", entry("zoo.exporters", "onnx"), True),
    Bad("one-twin", GOOD_DATASET, "other-twin 1.0 has this name too", "conflict", entry(name="twin"), True),
    Bad("other-twin", GOOD_DATASET, "one-twin 1.0 has this name too", "conflict", entry(name="twin"), True),
    Bad("prints", "print('hello')\n" + GOOD_DATASET, "prints", "ok"),
    Bad("moves", "import os\nos.chdir('/')\n" + GOOD_DATASET, "changes the working folder", "ok"),
    Bad("seeds", "import random\nrandom.seed(0)\n" + GOOD_DATASET, "random state of Python", "ok"),
    Bad("seeds-numpy", GOOD_DATASET + "np.random.seed(0)\n", "random state of numpy", "ok"),
    Bad("hushes", "import warnings\nwarnings.simplefilter('ignore')\n" + GOOD_DATASET, "which warnings", "ok"),
    Bad("handles", "import signal\nsignal.signal(2, lambda *_: None)\n" + GOOD_DATASET, "signals", "ok"),
    Bad("lingers", "import threading as t, time\nt.Thread(target=time.sleep, args=(9,)).start()\n" + GOOD_DATASET,
        "starts a thread", "ok"),
    Bad("writes", "open('written-at-import', 'w').close()\n" + GOOD_DATASET, "writes written-at-import", "ok"),
    Bad("calls", "import subprocess\nsubprocess.run(['true'])\n" + GOOD_DATASET, "starts a process", "ok"),
)  # fmt: skip


def install(site: Path, bad: Bad) -> None:
    """Lay one distribution into `site`."""
    module = bad.name.replace("-", "_")
    if bad.source:
        (site / f"{module}.py").write_text(bad.source)
    info = site / f"{bad.name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {bad.name}\nVersion: 1.0\n")
    text = (bad.entry_points or entry()).format(module=module)
    (info / "entry_points.txt").write_bytes(text.encode("utf-8", "surrogateescape"))


GOOD = Bad("goodone", GOOD_DATASET, "", "ok")
