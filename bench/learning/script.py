"""timm's own train.py, run as the script that it is, in a process that has imported what it imports."""

from __future__ import annotations

import contextlib
import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from timm.models import load_checkpoint

from bench.learning.adam import evaluate, make_network, read_images
from bench.learning.clock import cpu_seconds
from bench.learning.result import Outcome

if TYPE_CHECKING:
    from bench.learning.result import Job

SETTINGS = "--opt adamw --lr 5e-4 --batch-size 16 --sched cosine --smoothing 0.1"
FEW_EPOCHS = 2
"""Of so few none is given to the warm-up: the script's rate changes once an epoch, and begins at 1e-5."""


def train_script(job: Job) -> Outcome:
    """Train as many epochs as the job says; the script keeps the best by val."""
    command = [job.script, *arguments(job)]
    # Under another name than __main__ it only imports and defines.
    runpy.run_path(job.script, run_name="train")
    begin = cpu_seconds()
    with contextlib.redirect_stdout(sys.stderr):
        before, sys.argv = sys.argv, command
        runpy.run_path(job.script, run_name="__main__")
        sys.argv = before
    seconds = cpu_seconds() - begin
    model = make_network(job)
    load_checkpoint(model, str(Path(job.scratch, "out", "model_best.pth.tar")), weights_only=False)
    top1, _ = evaluate(model, read_images(job, model, "test"))
    return Outcome(top1=100 * top1, seconds=seconds, epochs=job.epochs)


def arguments(job: Job) -> list[str]:
    classes = sum(1 for _ in Path(job.folder, "train").iterdir())
    command = [*SETTINGS.split(), "--epochs", str(job.epochs), "--warmup-epochs", str(int(job.epochs > FEW_EPOCHS))]
    command += ["--model", job.of.network, "--num-classes", str(classes), "--seed", str(job.seed)]
    command += ["--data-dir", job.folder, "--train-split", "train", "--val-split", "val"]
    # No workers: on one thread they would only add what it costs to start them.
    command += ["--device", "cpu", "--workers", "0", "--checkpoint-hist", "1"]
    command += ["--output", job.scratch, "--experiment", "out"]
    if job.size:
        command += ["--img-size", str(job.size)]
    if job.weights:
        command += ["--pretrained", "--pretrained-path", job.weights]
    if job.of.source == "digits":
        command += ["--hflip", "0"]  # a mirrored digit is none
    return command
