"""One side in a process of its own: python -m bench.learning.side JOB, which is JSON, prints its outcome as JSON."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from bench.learning.adam import train_adam
from bench.learning.clock import cpu_seconds
from bench.learning.result import Job, Outcome
from bench.learning.script import train_script
from zoo.catalogue import Catalogue
from zoo.records.layers import resolve_options
from zoo.training.session import start_run

LATE_IMPORTS = ("albumentations", "sklearn.linear_model", "zoo_plugins.augmentations", "zoo_plugins.timm_family")
"""What zoo imports once it needs it; imports are nobody's seconds."""


def main() -> None:
    job = Job(**json.loads(sys.argv[1]))
    torch.set_num_threads(1)
    train = {"zoo": train_zoo, "probe": train_zoo, "adam": train_adam}.get(job.side, train_script)
    print(json.dumps(asdict(train(job))))


def train_zoo(job: Job) -> Outcome:
    """Run what `zoo train` runs with all its defaults; its seconds hold the figures on val and test, too."""
    for module in LATE_IMPORTS:
        importlib.import_module(module)
    begin = cpu_seconds()
    catalogue = Catalogue.read()
    resolved = resolve_options(catalogue, command_line(job), None, None)
    record = start_run(catalogue, resolved, Path(job.scratch, "run")).record()
    seconds = cpu_seconds() - begin
    return Outcome(top1=100 * record.metrics["test"]["top1"], seconds=seconds)


def command_line(job: Job) -> dict[str, Any]:
    """Return what the command line says."""
    given: dict[str, Any] = {"model": job.of.model, "dataset": job.folder, "threads": 1, "seed": job.seed}
    given |= job.of.options
    if job.weights:
        given["weights"] = job.weights
    if job.image_size:
        given["image_size"] = job.image_size
    if job.side == "probe":
        given["probe"] = True
    return given


if __name__ == "__main__":
    main()
