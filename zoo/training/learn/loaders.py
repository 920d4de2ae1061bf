"""Where a run's batches come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.data.loader import evaluation_batches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zoo.contracts.plugins import Split
    from zoo.contracts.preprocess import Preprocess
    from zoo.data.loader import Batch, TrainLoader


@dataclass(frozen=True, kw_only=True)
class Loaders:
    """Where batches come from."""

    train: TrainLoader
    val: Split
    preprocess: Preprocess
    workers: int

    def whole(self, split: Split, batch_size: int = 64) -> Iterator[Batch]:
        """Yield all of a split in every process, prepared as in evaluation; broken images are left out and noted."""
        return evaluation_batches(
            split, self.preprocess, batch_size=batch_size, workers=self.workers, faults=self.train.faults
        )

    def val_batches(self) -> Iterator[Batch]:
        """Yield this process's share of the validation split; broken images are left out, and noted with training's."""
        return evaluation_batches(
            self.val, self.preprocess, workers=self.workers, faults=self.train.faults, shard=self.train.shard
        )
