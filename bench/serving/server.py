"""A server of `zoo serve` in a process of its own, and what it takes of the machine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ZOO = [sys.executable, "-m", "zoo"]


@dataclass
class Served:
    """A server process and its workers."""

    process: subprocess.Popen[str]
    port: int

    def children(self) -> list[int]:
        pid = self.process.pid
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def cpu_seconds(self) -> float:
        stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self.children()]
        return sum(int(stat[11]) + int(stat[12]) for stat in stats) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self) -> float:
        pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.children()]
        return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait()


@contextlib.contextmanager
def serving(artifact: Path, *options: object) -> Iterator[Served]:
    command = [*ZOO, "serve", str(artifact), "--port", "0", "--json", *map(str, options)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    said = ""
    while not said.endswith("}\n"):
        line = process.stdout.readline()
        if not line:
            sys.exit(f"`{' '.join(command)}` ended with {process.wait()}")
        said += line
    try:
        yield Served(process, int(json.loads(said)["url"].rpartition(":")[2]))
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
