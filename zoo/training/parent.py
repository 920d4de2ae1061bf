"""The finished run that another one goes on from: its options as a layer below the user's, its weights, its name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zoo.catalogue.licenses import refuse_license
from zoo.disk.files import sha256
from zoo.errors import OptionInvalid
from zoo.records.layers import config_of
from zoo.records.run import Run
from zoo.training.learn.teacher import other_classes

if TYPE_CHECKING:
    from zoo.contracts.plugins import Dataset
    from zoo.records.config import TrainConfig


def check_parent(config: TrainConfig) -> None:
    """Raise for a run that cannot be gone on from, before anything is prepared.

    Raises:
        OptionInvalid: it has another model, or other images held out.
        RunInvalid: it is not finished, or damaged.
        LicenseRefused: its weights have a licence that `--license-allow` leaves out.
    """
    if not config.parent:
        return
    run = Run(Path(config.parent))
    before = config_of(run)
    if config.weights or config.pretrained:
        given = f"--weights {config.weights}" if config.weights else "pretrained = true"
        raise OptionInvalid(f"--from {run.name} brings the weights; leave {given} out")
    if config.model != before.model:
        raise OptionInvalid(f"--from {run.name} is a {before.model}, not a {config.model}; leave MODEL out")
    held_out = ("dataset", "dataset_options", "seed", "folds", "fold")
    if config.dataset == before.dataset and any(getattr(config, key) != getattr(before, key) for key in held_out):
        raise OptionInvalid(
            f"--from {run.name} has learned from images that this run would hold out; leave seed and folds as they were"
        )
    if license_ := run.record().licenses.get("weights"):
        refuse_license(f"the weights of run {run.name}", license_, config.license_allow)


def check_parent_classes(config: TrainConfig, dataset: Dataset) -> None:
    """Raise OptionInvalid if a dataset asks for other classes than the run knows that is gone on from."""
    if not config.parent:
        return
    run = Run(Path(config.parent))
    if what := other_classes(run.record(), dataset, config.dataset):
        raise OptionInvalid(
            f"--from {run.name} {what}; add images of it (old ones will do), or begin with --weights {run.best_file}"
        )


def parent_facts(config: TrainConfig) -> dict[str, str | float]:
    """Return what run.json and checkpoints say of it: "run", "weights" (SHA-256), their "license"; empty if none."""
    if not config.parent:
        return {}
    run = Run(Path(config.parent))
    record = run.record()
    best = {key: value for key, value in record.metrics.items() if key.startswith("best_val_")}
    license_ = record.licenses.get("weights", "")
    return {"run": str(run.path.resolve()), "weights": sha256(run.best_file), "license": license_, **best}
