"""How long does `zoo` take to answer? CPU time of `zoo --help` and `zoo list models`, over that of `import typer`."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys

ROUNDS = 15
COMMANDS = {
    "typer": ["-c", "import typer"],
    "help": ["-m", "zoo", "--help"],
    "list": ["-m", "zoo", "list", "models"],
}


def cpu_seconds(arguments: list[str]) -> float:
    """Run Python once; return user and system time of the finished process."""
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, arguments
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(-2, ROUNDS):
        for name, arguments in COMMANDS.items():
            seconds = cpu_seconds(arguments)
            if turn >= 0:
                times[name].append(seconds)
    ratios = {
        f"{name}_vs_typer": statistics.median(a / b for a, b in zip(times[name], times["typer"], strict=True))
        for name in ("help", "list")
    }
    print(f"CPU time over `import typer`, median of {ROUNDS} interleaved rounds")
    for name, ratio in ratios.items():
        print(f"  {name:16} {ratio:.2f}x")
    if "--json" in sys.argv:
        print(json.dumps({name: round(ratio, 3) for name, ratio in ratios.items()}))


if __name__ == "__main__":
    main()
