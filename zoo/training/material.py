"""What a run is made of, as data: screened, split, perhaps cached, and the loaders that read it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from zoo.catalogue.made.augmentation import augmentation_maker
from zoo.data.cache import Cache, choose_mode
from zoo.data.faults import Faults
from zoo.data.loader import TrainLoader, worker_count
from zoo.data.order import ORDERS
from zoo.data.prepared import Recorded, Subset, prepare
from zoo.data.screen import screen
from zoo.errors import DatasetInvalid
from zoo.training.learn.loaders import Loaders
from zoo.training.machine.transfer import allocator

if TYPE_CHECKING:
    from zoo.catalogue import Catalogue
    from zoo.contracts.plugins import Dataset
    from zoo.contracts.preprocess import Preprocess
    from zoo.data.cache import Mode
    from zoo.data.prepared import PreparedData
    from zoo.records.config import TrainConfig
    from zoo.training.machine.choose import Chosen
    from zoo.training.machine.world import World
    from zoo.training.watch import Watch

MOST_TOLD = 5


@dataclass(frozen=True, kw_only=True)
class Material:
    """The data of a run, and how it is read."""

    data: PreparedData
    cache: Cache | None
    cache_mode: Mode
    loaders: Loaders

    def with_batch_size(self, images: int) -> Material:
        """Return it with so many images a batch."""
        return replace(self, loaders=replace(self.loaders, train=replace(self.loaders.train, batch_size=images)))

    def shared_by(self, world: World, workers: int) -> Material:
        """Return the share of one of several processes, with so many threads or -1."""
        train = replace(self.loaders.train, shard=world.shard, workers=worker_count(workers, world.local_size))
        return replace(self, loaders=replace(self.loaders, train=train, workers=train.workers))

    def keep(self, watch: Watch) -> None:
        """Write what the cache has only in memory so far; tell if it keeps no more."""
        why = self.cache.flush() if self.cache else ""
        if why:
            watch.note(f"the cache keeps no more images, the rest is decoded in every epoch: {why}")

    def settled(self) -> Material:
        """Return it without images that training found broken; test images that nobody has read yet are read now."""
        faults, test = self.loaders.train.faults, self.data.splits["test"]
        if self.data.rule == "size":
            assert isinstance(test.images, Subset)
            looks = screen(test.images, f"{self.data.name}:test")
            for index, look in enumerate(looks):
                if look.fault:
                    faults.found.setdefault(test.images.name(index), look.fault)
        return replace(self, data=self.data.without(faults.found))


def gather(
    catalogue: Catalogue, config: TrainConfig, dataset: Dataset, preprocess: Preprocess, chosen: Chosen, watch: Watch
) -> Material:
    """Make a dataset ready for a run.

    Raises:
        DatasetInvalid: the images are not fit to be trained on.
    """
    recorded = Recorded(rule=chosen.split_rule, fold=config.chosen_fold)
    data = prepare(dataset, config.dataset, seed=config.seed, recorded=recorded, progress=watch.screening)
    _tell(data, watch)
    limit = config.cache_limit * 1e9
    mode = choose_mode(chosen.cache, data, preprocess, epochs=config.epoch_count, limit=limit)
    cache = Cache(mode, limit, data, preprocess) if mode != "off" else None
    workers, faults = worker_count(config.workers), Faults()
    train = TrainLoader(
        split=cache.train() if cache else data.splits["train"],
        augmentation=augmentation_maker(catalogue, config.augment, config.augment_options, preprocess.size),
        size=preprocess.size,
        batch_size=min(chosen.batch_size, len(data.splits["train"])),
        seed=config.seed,
        workers=workers,
        order=ORDERS[config.sampler],
        allocate=allocator(torch.device(chosen.device)),
        faults=faults,
    )
    val = cache.val() if cache else data.splits["val"]
    loaders = Loaders(train=train, val=val, preprocess=preprocess, workers=workers)
    return Material(data=data, cache=cache, cache_mode=mode, loaders=loaders)


def _tell(data: PreparedData, watch: Watch) -> None:
    """Note what the user should know of the data before it is trained on."""
    for image, fault in list(data.skipped.items())[:MOST_TOLD]:
        watch.note(f"left out: {image} {fault}")
    if len(data.skipped) > MOST_TOLD:
        watch.note(f"left out: {len(data.skipped)} images in all; run.json names every one")
    if data.multi_label:
        there = data.splits["val"].labels.sum(0, dtype=int) > 0
        if not there.any():
            raise DatasetInvalid(
                f"no val image of dataset {data.name!r} has a label, so nothing can be judged; add some"
            )
        for name in (name for name, found in zip(data.classes, there, strict=True) if not found):
            watch.note(f"no val image has label {name!r}: mAP leaves it out, and its threshold stays 0.5")
