"""Train, kill, look at what is left, resume, kill: runs as a process of its own that forks a new trainer each time.

Usage: python kill_loop.py RUN KILLS SEED OPTIONS, the last as JSON; prints what happened as JSON.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import torch

from zoo.catalogue import Catalogue
from zoo.errors import ZooError
from zoo.records.layers import resolve_options
from zoo.records.run import Run
from zoo.training.checkpoint import read_checkpoint
from zoo.training.session import resume_run, start_run

LONGEST_SECONDS = 0.7
"""Between the first step of a process and its end."""


def main() -> None:
    path, kills, seed, options = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])
    warm_up(path, options)
    draw, found = random.Random(seed), {"kills": 0, "inside_writes": 0, "processes": 0}
    while not Run(path).finished:
        found["processes"] += 1
        aimed = draw.random() < 0.5
        process = begin(path, options)
        if found["kills"] < kills:
            wait_for(path.with_name("writing" if aimed else "stepping"), process)
            time.sleep(draw.uniform(0, 0.004) if aimed else draw.uniform(0, LONGEST_SECONDS))
            os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        if os.WIFSIGNALED(status):
            found["kills"] += 1
            found["inside_writes"] += aimed
        elif os.waitstatus_to_exitcode(status):
            sys.exit(f"process {found['processes']} failed")
        if Run(path).checkpoint_file.exists():
            read_checkpoint(Run(path))
    print(json.dumps(found))


def warm_up(path: Path, options: dict[str, Any]) -> None:
    """Import and compile all that a process needs, so that each has it when it begins."""
    torch.set_num_threads(1)
    start_run(*arguments(path.with_name("warm-up"), {**options, "epochs": 1}))


def arguments(path: Path, options: dict[str, Any]) -> tuple[Any, Any, Path]:
    catalogue = Catalogue.read()
    return catalogue, resolve_options(catalogue, options, None, None), path


def begin(path: Path, options: dict[str, Any]) -> int:
    """Fork a process that starts or resumes the run; return its id."""
    for name in ("writing", "stepping"):
        path.with_name(name).unlink(missing_ok=True)
    process = os.fork()
    if process:
        return process
    try:
        tell(path)
        catalogue, resolved, _ = arguments(path, options)
        if (path / "last.ckpt").exists():
            resume_run(catalogue, Run(path), lambda saved: saved)
        else:
            for leftover in path.iterdir() if path.is_dir() else []:
                leftover.unlink()
            start_run(catalogue, resolved, path)
    except ZooError as exc:
        print(f"zoo: {exc}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def tell(path: Path) -> None:
    """Leave marks when training and when a checkpoint begins, for the one that kills."""
    from zoo.training.job import Job

    save, step = torch.save, Job.after_step

    def saving(*args: Any, **kwargs: Any) -> None:
        path.with_name("writing").touch()
        save(*args, **kwargs)

    def stepping(self: Any, state: Any) -> None:
        path.with_name("stepping").touch()
        step(self, state)

    torch.save = saving
    Job.after_step = stepping  # type: ignore[method-assign]


def wait_for(mark: Path, process: int) -> None:
    while not mark.exists() and Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.0005)


if __name__ == "__main__":
    main()
