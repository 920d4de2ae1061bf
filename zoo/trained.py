"""A finished run, loaded: the model that ships, and the very data it was trained and validated on."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.config import TrainConfig
from zoo.data.decode import to_rgb
from zoo.data.folds import fold_of
from zoo.data.loader import worker_count
from zoo.data.prepared import PreparedData, Recorded, prepare
from zoo.data.source import open_dataset
from zoo.errors import DatasetInvalid
from zoo.preprocess import Preprocess

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from zoo.catalogue import Catalogue
    from zoo.run import Run, RunRecord

CALIBRATION_IMAGES = 256
CALIBRATION_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What evaluation, export and proof start from."""

    catalogue: Catalogue
    run: Run
    record: RunRecord
    config: TrainConfig
    preprocess: Preprocess
    data: PreparedData
    workers: int

    @property
    def shipped(self) -> torch.nn.Module:
        """uint8 [N, H, W, 3] to probabilities, on the CPU, in eval mode."""
        return self._models[0]

    @property
    def backbone(self) -> torch.nn.Module:
        """The backbone inside it."""
        return self._models[1]

    @functools.cached_property
    def _models(self) -> tuple[torch.nn.Module, torch.nn.Module]:
        # Built when first asked for: an artifact is evaluated without PyTorch.
        return self.run.shipped_model(self.catalogue)

    def calibration(self) -> Iterator[np.ndarray]:
        """Yield uint8 [n, H, W, 3] training images, chosen from the seed, prepared as in evaluation."""
        train = self.data.splits["train"]
        chosen = np.random.default_rng(self.record.seed).permutation(len(train))[:CALIBRATION_IMAGES]
        for begin in range(0, len(chosen), CALIBRATION_BATCH):
            batch = chosen[begin : begin + CALIBRATION_BATCH]
            yield np.stack([self.preprocess.prepare(to_rgb(train.images[int(i)])) for i in batch])


def load_trained(catalogue: Catalogue, run: Run) -> Trained:
    """Load a run's record and data; its model follows when it is asked for.

    Raises:
        RunInvalid: the run is not finished, or damaged.
        DatasetInvalid: the data is not what the run was trained on.
    """
    record = run.record()
    catalogue = catalogue.preferring(record.plugins)
    config = TrainConfig.model_validate(record.config)
    dataset = open_dataset(catalogue, config.dataset, config.dataset_options)
    # The first runs did not write down by what rule their splits were cut; there was only one.
    rule: Any = record.chosen.get("split_rule", "rank")
    recorded = Recorded(rule=rule, skipped=record.skipped_images, fold=fold_of(config))
    data = prepare(dataset, config.dataset, seed=config.seed, recorded=recorded)
    if data.fingerprint != record.dataset_fingerprint:
        raise DatasetInvalid(
            f"dataset {config.dataset!r} is not what {run.path} was trained on (images were added, removed "
            "or changed); restore it, or train again"
        )
    return Trained(
        catalogue=catalogue,
        run=run,
        record=record,
        config=config,
        preprocess=Preprocess.from_json(record.preprocess),
        data=data,
        workers=worker_count(config.workers),
    )
