"""How well do recipes learn? `tiny` on digits, and a recipe on shapes beside the plain Adam of a usual script.

Test top-1 of whole runs, started as `zoo train` starts them; nothing is timed. Seeds decide splits, weights, order and
augmentation; all sides of a comparison get the same ones, in turn. They begin with random weights; bench/learn.py has
pretrained ones. So few epochs need a larger rate than that of the recipe `from-scratch`, a shorter warm-up and the
gentlest augmentation, chosen by validation on other seeds.
Plain Adam: a constant rate of 1e-3, the usual one, without warm-up, decay, smoothing, average or augmentation, for the
recipe's network, epochs and batches; validation chooses its best epoch as well. A third side is augmented, too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

from zoo.catalogue import Catalogue
from zoo.records.layers import resolve_options
from zoo.training.session import start_run

DIGITS_SEEDS, SHAPES_SEEDS = 5, 3
EPOCHS = 10
DIGITS: dict[str, Any] = {"model": "tiny", "dataset": "digits"}
SHAPES: dict[str, Any] = {
    "model": "test_resnet",
    "dataset": "shapes",
    "dataset_options": {"count": 200},
    "image_size": 96,
    "pretrained": False,
    "epochs": EPOCHS,
    # What is timed may come out otherwise the next time.
    "precision": "fp32",
    "layout": "nhwc",
}
RECIPE = "from-scratch"
SHORT: dict[str, Any] = {"lr": 6e-3, "warmup_epochs": 1, "augment": "light"}
"""The recipe itself has a hundred epochs, and a rate of 1e-3."""
PLAIN_ADAM: dict[str, Any] = {
    "optimizer": "adam",
    "lr": 1e-3,
    "schedule": "constant",
    "warmup_epochs": 0,
    "weight_decay": 0,
    "label_smoothing": 0,
    "ema_decay": 0,
    "augment": "none",
}
SIDES: dict[str, dict[str, Any]] = {
    RECIPE: SHORT,
    "plain Adam": PLAIN_ADAM,
    "plain Adam, augmented": {**PLAIN_ADAM, "augment": "light"},
}


@dataclass(frozen=True)
class Result:
    """Top-1 of a run's best weights, as shares of 1."""

    val: float
    test: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--digits-seeds", type=int, default=DIGITS_SEEDS)
    parser.add_argument("--shapes-seeds", type=int, default=SHAPES_SEEDS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["ZOO_HOME"] = scratch
        digits = on_digits(range(arguments.digits_seeds))
        shapes = on_shapes(range(arguments.shapes_seeds), tuple(SIDES))
    if arguments.json:
        recipe, adam, augmented = (round(mean(results), 4) for results in shapes.values())
        found = {"digits_tiny": round(mean(digits), 4), "shapes_recipe": recipe, "shapes_adam": adam}
        print(json.dumps({**found, "shapes_adam_augmented": augmented, "shapes_gain": round(recipe - adam, 4)}))


def on_digits(seeds: range, **given: Any) -> list[Result]:
    """Train `tiny` with its recipe, once for each seed, and print a table."""
    print("tiny on digits, recipe tiny: top-1 of val, by which the best epoch is chosen, and of test")
    results = []
    for seed in seeds:
        results.append(train({**DIGITS, **given, "seed": seed}))
        print(f"  seed {seed}   val {percent(results[-1].val)}   test {percent(results[-1].test)}", flush=True)
    print(f"  {told(results)}")
    return results


def on_shapes(seeds: range, sides: tuple[str, ...], **given: Any) -> dict[str, list[Result]]:
    """Train each side with each seed, in turn, and print a table."""
    print(f"{SHAPES['model']} on shapes, 2,000 images at {SHAPES['image_size']} px: top-1 of val and of test")
    print(f"  the same random weights on all sides; {EPOCHS} epochs, for which recipe {RECIPE} has lr {SHORT['lr']}")
    results: dict[str, list[Result]] = {side: [] for side in sides}
    for seed in seeds:
        for side in sides:
            result = train({**SHAPES, **SIDES[side], **given, "seed": seed}, RECIPE)
            results[side].append(result)
            print(f"  seed {seed}   {side:22}   val {percent(result.val)}   test {percent(result.test)}", flush=True)
    for side in sides:
        print(f"  {side:22}   {told(results[side])}")
    return results


def train(given: dict[str, Any], recipe: str | None = None) -> Result:
    """Run what `zoo train` runs, and forget the run."""
    catalogue = Catalogue.read()
    resolved = resolve_options(catalogue, {"threads": 1, **given}, recipe, None)
    with tempfile.TemporaryDirectory() as scratch:
        metrics = start_run(catalogue, resolved, Path(scratch, "run")).record().metrics
    return Result(val=metrics["val"]["top1"], test=metrics["test"]["top1"])


def mean(results: list[Result]) -> float:
    """Return the mean test top-1."""
    return statistics.fmean(result.test for result in results)


def told(results: list[Result]) -> str:
    """Tell mean and spread of test top-1."""
    shares = [result.test for result in results]
    spread = f", standard deviation {100 * statistics.stdev(shares):.2f} points" if len(shares) > 1 else ""
    return f"test: mean {percent(mean(results))}{spread}, {percent(min(shares))} to {percent(max(shares))}"


def percent(share: float) -> str:
    return f"{100 * share:6.2f} %"


if __name__ == "__main__":
    main()
