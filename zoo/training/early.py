"""What is wrong with a run's names, folders and options, as far as that can be told before PyTorch and timm load."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.catalogue.isolation.reading import read
from zoo.catalogue.made.augmentation import find_augmentation, is_pipeline_file
from zoo.catalogue.made.dataset import is_users_own, open_dataset, plugin_of
from zoo.catalogue.options import unknown_option
from zoo.errors import CheckpointInvalid, OptionInvalid
from zoo.training.learn.optimizer_names import optimizer_names, unknown_optimizer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zoo.catalogue import BackboneChoice, Catalogue
    from zoo.catalogue.installed import Plugin
    from zoo.contracts.plugins import Dataset
    from zoo.records.config import TrainConfig


def check_early(catalogue: Catalogue, config: TrainConfig) -> Dataset | None:
    """Raise for whatever is wrong with names, folders and options and needs no PyTorch to be seen.

    What only the libraries can tell follows later, in `check_names`. Nothing is fetched, made or written.

    Returns:
        The dataset, opened, where it is the user's own folder or table; None where a plugin brings it.

    Raises:
        ZooError: what is wrong.
    """
    _check_backbone(catalogue, catalogue.backbone(config.model), config.backbone_options)
    augmentation = find_augmentation(catalogue, config.augment)
    _check_augmentation(augmentation, config)
    for name in config.trackers:
        catalogue.find("tracker", name)
    _check_optimizer(config.optimizer)
    if config.weights and not Path(config.weights).expanduser().is_file():
        raise CheckpointInvalid(f"{config.weights}: no such weights file; check the path")
    return _own_dataset(catalogue, config)


def in_one_of_several() -> bool:
    """Tell whether torchrun, or `zoo train --devices`, started this process beside others."""
    return int(os.environ.get("WORLD_SIZE") or 1) > 1


def _check_optimizer(name: str) -> None:
    words, known = optimizer_names()
    if words and name not in words:
        raise OptionInvalid(unknown_optimizer(name, known))


def _check_backbone(catalogue: Catalogue, choice: BackboneChoice, options: Mapping[str, Any]) -> None:
    if not choice.member:
        _check_option_names(choice.plugin, options, f"model {choice.name!r}")
    elif check := getattr(catalogue.family(choice.plugin), "check", None):
        check(choice.member, options)


def _check_augmentation(plugin: Plugin, config: TrainConfig) -> None:
    _check_option_names(plugin, config.augment_options, f"augmentation {config.augment!r}")
    if is_pipeline_file(config.augment) and not Path(config.augment).expanduser().is_file():
        raise OptionInvalid(f"{config.augment}: no such pipeline; check the path")


def _check_option_names(plugin: Plugin, given: Mapping[str, Any], owner: str) -> None:
    """Refuse an option that the plugin's source does not have; a source that cannot be read tells nothing."""
    known = read(plugin.entry_point).options
    stray = [name for name in given if name not in known]
    if known and stray:
        raise OptionInvalid(unknown_option(owner, stray[0], known))


def _own_dataset(catalogue: Catalogue, config: TrainConfig) -> Dataset | None:
    plugin = plugin_of(catalogue, config.dataset)
    if is_users_own(plugin):
        return open_dataset(catalogue, config.dataset, config.dataset_options)
    _check_option_names(plugin, config.dataset_options, f"dataset {config.dataset!r}")
    return None
