"""How long until `zoo` answers? CPU time of help, a list and twelve wrong commands over that of `import typer`."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROUNDS = 15
FAST = {
    "typer": ["-c", "import typer"],
    "help": ["-m", "zoo", "--help"],
    "list": ["-m", "zoo", "list", "models"],
}
TRAIN = ("train", "tiny", "--dataset")
WRONG = {
    "model": ("train", "resnet51", "--dataset", "digits"),
    "dataset": (*TRAIN, "digit"),
    "augmentation": (*TRAIN, "digits", "--augment", "standart"),
    "exporter": ("export", "--format", "onx"),
    "target": ("export", "--onnx", "--target", "rasberry-pi-5"),
    "optimizer": (*TRAIN, "digits", "--optimizer", "adamx"),
    "recipe": (*TRAIN, "digits", "--recipe", "finetun"),
    "folder": (*TRAIN, "./nowhere"),
    "column": (*TRAIN, "csv", "--dataset-option", "file=labels.csv", "--dataset-option", "label=labl"),
    "option": (*TRAIN, "digits", "--set", "epocs=3"),
    "run": ("eval", "photo"),
    "picture": ("predict", "nowhere.png"),
}
"""What is misspelt or missing -> a command that a user might type."""


def lay_out(folder: Path) -> None:
    """Write what the wrong commands find: a table, and the folder of a run."""
    (folder / "labels.csv").write_text("path,label\na.png,cat\nb.png,dog\n")
    (folder / "runs/photos").mkdir(parents=True)


def cpu_seconds(arguments: list[str], folder: str, code: int) -> float:
    """Run Python once; return user and system time of the finished process."""
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == code, arguments
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        lay_out(Path(folder))
        commands = {**FAST, **{name: ["-m", "zoo", *words] for name, words in WRONG.items()}}
        times: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(-2, ROUNDS):
            for name, arguments in commands.items():
                seconds = cpu_seconds(arguments, folder, int(name in WRONG))
                if turn >= 0:
                    times[name].append(seconds)
    over = {
        name: statistics.median(a / b for a, b in zip(found, times["typer"], strict=True))
        for name, found in times.items()
    }
    worst = max(WRONG, key=lambda name: over[name])
    ratios = {"help_vs_typer": over["help"], "list_vs_typer": over["list"], "wrong_vs_typer": over[worst]}
    print(f"CPU time over `import typer`, median of {ROUNDS} interleaved rounds")
    for name, ratio in ratios.items():
        print(f"  {name:16} {ratio:.2f}x")
    print("wrong:", ", ".join(f"{name} {over[name]:.2f}x" for name in WRONG))
    if "--json" in sys.argv:
        print(json.dumps({name: round(ratio, 3) for name, ratio in ratios.items()}))


if __name__ == "__main__":
    main()
