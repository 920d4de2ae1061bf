"""Measure a row: each side and seed in a process of its own, zoo first, whose CPU seconds the others may spend."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.learning.images import count_images, write_images
from bench.learning.photos import fetch_weights
from bench.learning.result import Job, Outcome, Result, Results

if TYPE_CHECKING:
    from bench.learning.rows import Row

SIDES = ("zoo", "timm", "adam", "probe")
CALIBRATION = (1, 5)
"""Epochs of two runs of timm's script, whose difference tells what an epoch takes."""
SHORTEST_EPOCH = 0.01
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    # glibc gives large blocks back after each use, and where page faults are dear, getting them anew takes up to half
    # of a training step (measured). It is kept from that on all sides alike.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "100000000",
}


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Whom it compares, where the photographs are, and the results so far."""

    sides: tuple[str, ...]
    seeds: int
    image_size: int
    """Of the rows with pretrained weights; 0 is the network's own."""
    photos: Path | None
    script: Path | None
    results: Results

    def measure(self, row: Row) -> dict[str, list[Result]]:
        """Return a result of each side and seed; what the results hold already is not run again."""
        weights = fetch_weights(self.photos, row.weights) if self.photos and row.weights else ""
        sides: dict[str, list[Result]] = {side: [] for side in self.sides_of(row)}
        for seed in range(self.seeds):
            with tempfile.TemporaryDirectory() as scratch:
                job = Job(
                    row=row.name,
                    seed=seed,
                    side=SIDES[0],
                    image_size=self.image_size if row.weights else 0,
                    folder=f"{scratch}/images",
                    weights=str(weights),
                    script=str(self.script or ""),
                )
                for side, results in sides.items():
                    budget = sides[SIDES[0]][seed].seconds if side != SIDES[0] else 0.0
                    results.append(self.result(replace(job, side=side, budget=budget)))
        return sides

    def sides_of(self, row: Row) -> tuple[str, ...]:
        """Return the sides that can learn a row; zoo is always among them, as it sets the time."""
        able = {"timm": self.script is not None, "probe": bool(row.weights)}
        return tuple(side for side in SIDES if side in {SIDES[0], *self.sides} and able.get(side, True))

    def result(self, job: Job) -> Result:
        """Return the result of a job, from the file or from a process."""
        if result := self.results.get(job.key):
            return result
        folder = Path(job.folder)
        if not folder.exists():
            write_images(job.of, job.seed, self.photos, folder)
        if job.side == "timm" and not job.epochs:
            job = replace(job, epochs=self.epochs(job))
        outcome = run_job(job)
        result = Result(
            row=job.row,
            seed=job.seed,
            side=job.side,
            image_size=job.image_size,
            train=count_images(folder, "train"),
            test=count_images(folder, "test"),
            budget=job.budget,
            **asdict(outcome),
        )
        self.results.add(result)
        return result

    def epochs(self, job: Job) -> int:
        """Return how many epochs of timm's script fit into the budget, one at least."""
        few, many = CALIBRATION
        # Measured once a row: the images of another seed take as long.
        runs = [replace(job, seed=0, side=f"timm, {epochs} epochs", epochs=epochs) for epochs in CALIBRATION]
        short, long = (self.result(run).seconds for run in runs)
        epoch = max((long - short) / (many - few), SHORTEST_EPOCH)
        start = short - few * epoch
        return max(1, int((job.budget - start) / epoch))


def run_job(job: Job) -> Outcome:
    """Run a side in a process of its own.

    Raises:
        SystemExit: it failed; the end of what it said is told.
    """
    with tempfile.TemporaryDirectory() as scratch:
        # Its own home: every run pays for its own cache of images and its own timings, as a first one does.
        environment = {**os.environ, **ENVIRONMENT, "ZOO_HOME": f"{scratch}/home"}
        order = json.dumps(asdict(replace(job, scratch=scratch)))
        command = [sys.executable, "-m", "bench.learning.side", order]
        process = subprocess.run(command, env=environment, capture_output=True, text=True)
    if process.returncode:
        raise SystemExit(f"{job.side} on {job.row} with seed {job.seed} failed:\n{process.stderr[-3000:]}")
    return Outcome(**json.loads(process.stdout.splitlines()[-1]))
