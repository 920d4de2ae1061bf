"""What a run is made of, once everything was found: data, backbone, what auto came to, and whose plugins."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from zoo.catalogue.licenses import refuse_license
from zoo.catalogue.made.augmentation import find_augmentation
from zoo.catalogue.made.backbone import BackboneRequest, build_backbone
from zoo.catalogue.made.dataset import locate, open_dataset
from zoo.disk.weights import load_weights
from zoo.records.run import Run
from zoo.records.versions import versions
from zoo.training.allowed import refuse_before_download
from zoo.training.learn.mix import refuse_odd_batches
from zoo.training.learn.teacher import Teacher, check_classes, find_teacher, tell_teacher
from zoo.training.learn.weighting import check_weights, class_weights
from zoo.training.material import Material, gather
from zoo.training.parent import check_parent_classes, parent_facts

if TYPE_CHECKING:
    from zoo.catalogue import BackboneChoice, Catalogue
    from zoo.catalogue.installed import Plugin
    from zoo.contracts.plugins import Dataset
    from zoo.contracts.preprocess import Preprocess
    from zoo.data.prepared import PreparedData
    from zoo.records.config import TrainConfig
    from zoo.training.learn.loaders import Loaders
    from zoo.training.machine.choose import Chosen
    from zoo.training.watch import Watch


@dataclass(frozen=True, kw_only=True)
class Plugins:
    """What a run's names meant."""

    backbone: BackboneChoice
    dataset: Plugin
    augmentation: Plugin

    @property
    def by_kind(self) -> dict[str, Plugin]:
        """Kind -> plugin."""
        return {"backbone": self.backbone.plugin, "dataset": self.dataset, "augmentation": self.augmentation}


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a run is made of, once everything was found."""

    material: Material
    backbone: torch.nn.Module
    chosen: Chosen
    weights: dict[str, float]
    """Class -> what it weighs in the training loss; empty if all weigh the same."""
    teacher: Teacher | None
    """The run whose answers are learned as well."""
    parent: dict[str, str | float]
    """What is to be said of the run that this one goes on from; empty if there is none."""
    plugins: Plugins

    @property
    def data(self) -> PreparedData:
        """The images, screened and split."""
        return self.material.data

    @property
    def loaders(self) -> Loaders:
        """Where batches come from."""
        return self.material.loaders

    @property
    def preprocess(self) -> Preprocess:
        """What the device does to an image."""
        return self.material.loaders.preprocess

    def with_chosen(self, chosen: Chosen) -> Parts:
        """Return them with what `auto` came to, perhaps in another process: the device stays this one's own."""
        chosen = replace(chosen, device=self.chosen.device)
        return replace(self, material=self.material.with_batch_size(chosen.batch_size), chosen=chosen)

    @property
    def versions(self) -> dict[str, str]:
        """Package -> version of all that had a part in it."""
        return versions(list(self.plugins.by_kind.values()))

    @property
    def owners(self) -> dict[str, str]:
        """Kind -> distribution, as run.json and the checkpoint keep it."""
        return {kind: plugin.distribution for kind, plugin in self.plugins.by_kind.items()}


def find_parts(
    catalogue: Catalogue, config: TrainConfig, chosen: Chosen, watch: Watch, dataset: Dataset | None = None
) -> Parts:
    """Find everything, but the dataset where it was opened already; nothing of the run's own is written.

    Raises:
        ZooError: whatever is wrong with the names, options, data or machine.
    """
    torch.set_num_threads(chosen.threads)
    plugins = find_plugins(catalogue, config)
    refuse_before_download(catalogue, config, plugins.backbone, plugins.dataset)
    teacher = find_teacher(catalogue, config, chosen.device)
    dataset = dataset or open_dataset(catalogue, config.dataset, config.dataset_options)
    if dataset.license:
        refuse_license(f"dataset {config.dataset!r}", dataset.license, config.license_allow)
    check_weights(config.class_weights, dataset.classes)
    check_classes(teacher, dataset, config.dataset)
    check_parent_classes(config, dataset)
    # The model comes before the first look at the images: missing weights should be told at once.
    backbone, preprocess = _backbone(catalogue, config, plugins.backbone, len(dataset.classes))
    material = gather(catalogue, config, dataset, preprocess, chosen, watch)
    if isinstance(config.batch_size, int):
        refuse_odd_batches(config, material.loaders.train.batch_size)
    tell_teacher(teacher, config, dataset, material.data, watch.note)
    return Parts(
        material=material,
        backbone=backbone,
        chosen=replace(chosen, cache=material.cache_mode, split_rule=material.data.rule),
        weights=_weights(config, material.data),
        teacher=teacher,
        parent=parent_facts(config),
        plugins=plugins,
    )


def find_plugins(catalogue: Catalogue, config: TrainConfig) -> Plugins:
    """Return the plugins behind the names.

    Raises:
        UnknownName, DuplicateName, PluginBroken, OptionInvalid: as the catalogue and the options tell.
    """
    return Plugins(
        backbone=catalogue.backbone(config.model),
        dataset=locate(catalogue, config.dataset, config.dataset_options)[0],
        augmentation=find_augmentation(catalogue, config.augment),
    )


def _weights(config: TrainConfig, data: PreparedData) -> dict[str, float]:
    if not config.class_weights:
        return {}
    return class_weights(config.class_weights, data.splits["train"].labels, data.classes)


def fresh_backbone(catalogue: Catalogue, config: TrainConfig, classes: int) -> torch.nn.Module:
    """Return the backbone anew, in one piece and with random weights, in place of one shared among processes."""
    bare = config.model_copy(update={"pretrained": False, "weights": "", "parent": ""})
    return _backbone(catalogue, bare, catalogue.backbone(config.model), classes)[0]


def _backbone(
    catalogue: Catalogue, config: TrainConfig, choice: BackboneChoice, classes: int
) -> tuple[torch.nn.Module, Preprocess]:
    torch.manual_seed(config.seed)
    start = Run(Path(config.parent)).best_file if config.parent else config.weights
    request = BackboneRequest(
        num_classes=classes,
        pretrained=config.pretrained and not start,
        weights=load_weights(Path(start).expanduser()) if start else None,
        image_size=config.image_size,
        options=config.all_backbone_options,
    )
    return build_backbone(catalogue, choice, request)
