"""The finished run that another one goes on from: its options as a layer below the user's, its weights, its name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.catalogue.licenses import refuse_license
from zoo.config import TrainConfig
from zoo.disk.files import sha256
from zoo.errors import OptionInvalid, RunInvalid
from zoo.run import Run
from zoo.train.teacher import other_classes

if TYPE_CHECKING:
    from zoo.config import Layer
    from zoo.contracts.plugins import Dataset

OF_THE_MACHINE = frozenset(
    {"cache", "cache_limit", "checkpoint_minutes", "checkpoint_steps", "compile", "device", "fsdp", "layout"}
    | {"precision", "sync_batchnorm", "threads", "workers"}
)
OF_THE_BEGINNING = frozenset(
    {"freeze", "head", "image_size_start", "layer_decay", "lr", "parent", "pretrained", "probe", "qat", "teacher"}
    | {"unfreeze_epoch", "warmup_epochs", "weights"}
)
"""Options of a run's own start, which make no sense for one that goes on from its end."""
OF_THE_DATASET = frozenset({"dataset_options", "folds", "fold"})
SLOWER = 0.1
"""Learning rate of what goes on, as a share of the first run's."""
QAT: dict[str, Any] = {"epochs": 2, "precision": "fp32"}
"""Long enough for most; and bf16 has no more digits than the rounding that is to be learned."""


def parent_layers(path: Path, *, dataset: str | None = None, qat: bool = False) -> list[Layer]:
    """Return the options of a finished run that hold for one that goes on from it, and those that differ.

    Args:
        path: Of the run.
        dataset: What is asked for; another one than the run's has options of its own.
        qat: Whether int8's rounding is to be learned.

    Raises:
        RunInvalid: it is not finished, or damaged.
    """
    run = Run(path)
    config = _config(run)
    left_out = OF_THE_MACHINE | OF_THE_BEGINNING
    if dataset not in (None, config.dataset):
        left_out |= OF_THE_DATASET
    kept = {name: value for name, value in config.model_dump().items() if name not in left_out}
    gentler: dict[str, Any] = {"pretrained": False, "lr": SLOWER * config.lr, "warmup_epochs": 0.0}
    return [(f"run {run.name}", kept), ("--from", gentler), *([("--qat", QAT)] if qat else [])]


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
    before = _config(run)
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


def _config(run: Run) -> TrainConfig:
    try:
        return TrainConfig.model_validate(run.record().config)
    except ValueError as exc:
        raise RunInvalid(f"{run.record_file} is damaged: its options are not those of zoo train; train again") from exc
