"""What is wrong with a run's names, folders and options, as far as that can be told before PyTorch and timm load."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.catalogue.isolation.reading import read
from zoo.catalogue.made.augmentation import find_augmentation, is_pipeline_file
from zoo.catalogue.made.dataset import is_users_own, lasting_name, lasting_options, open_dataset, plugin_of
from zoo.catalogue.options import unknown_option
from zoo.errors import CheckpointInvalid, OptionInvalid
from zoo.records.layers import missing_option
from zoo.records.options import BALANCED, training_options
from zoo.records.rows import REQUIRED, parts_of
from zoo.training.learn.optimizer_names import optimizer_names, unknown_optimizer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zoo.catalogue import Catalogue
    from zoo.catalogue.installed import Plugin
    from zoo.contracts.plugins import Dataset


TEXTS = ("model", "dataset", "augment", "optimizer", "weights", "monitor", "device", "class_weights")
TABLES = ("backbone_options", "dataset_options", "augment_options", "tracker_options")
"""What a file may bring as something else: then `TrainConfig` refuses it."""
FIGURES = ("loss", "top1", "top5", "ece", "macro_precision", "macro_recall", "macro_f1", "map", "exact", "micro_f1")
"""All that any run can be watched by; which of them a run has depends on its labels."""
NO_DEVICES = frozenset({"gpu", "nvidia", "GPU", "CPU", "CUDA", "tpu", "amd", "rocm", "metal", "cuda0"})
"""What people write for a device, and PyTorch calls otherwise."""


def check_early(catalogue: Catalogue, given: Mapping[str, Any]) -> Dataset | None:
    """Raise for whatever is wrong with names, folders and options and needs no PyTorch to be seen.

    Nothing is fetched, made or written. Types and ranges are `TrainConfig`'s matter; what only the libraries can tell
    follows later, in `check_names`.

    Args:
        catalogue: What names mean.
        given: Training options, laid over each other; what is not in it has its default.

    Returns:
        The dataset, opened, where it is the user's own folder or table; None where a plugin brings it.

    Raises:
        ZooError: what is wrong.
    """
    values = {name: given.get(name, option.default) for name, option in training_options().items()}
    for name in ("model", "dataset"):
        if values[name] is REQUIRED:
            raise OptionInvalid(missing_option(name))
    kinds = {**dict.fromkeys(TEXTS, str), **dict.fromkeys(TABLES, dict)}
    if not all(isinstance(values[name], kind) for name, kind in kinds.items()):
        return None
    _check_backbone(catalogue, values)
    _check_augmentation(catalogue, values)
    _check_trackers(catalogue, values)
    _check_optimizer(values["optimizer"])
    _check_words(values)
    if values["weights"] and not Path(values["weights"]).expanduser().is_file():
        raise CheckpointInvalid(f"{values['weights']}: no such weights file; check the path")
    return _own_dataset(catalogue, values)


def in_one_of_several() -> bool:
    """Tell whether torchrun, or `zoo train --devices`, started this process beside others."""
    return int(os.environ.get("WORLD_SIZE") or 1) > 1


def _check_trackers(catalogue: Catalogue, values: Mapping[str, Any]) -> None:
    asked = parts_of(values["trackers"])
    plugins = {str(name): catalogue.find("tracker", str(name)) for name in asked} if isinstance(asked, tuple) else {}
    if len(plugins) == 1:
        ((name, plugin),) = plugins.items()
        own = {key.removeprefix(f"{name}."): value for key, value in values["tracker_options"].items()}
        _check_option_names(plugin, own, f"tracker {name!r}")


def _check_words(values: Mapping[str, Any]) -> None:
    """Refuse a figure and a device that no run and no machine has, and weights of classes that are not there."""
    if values["monitor"] and values["monitor"] not in FIGURES:
        raise OptionInvalid(f"--monitor {values['monitor']} is no figure; write one of {', '.join(FIGURES)}")
    if (kind := values["device"].partition(":")[0]) in NO_DEVICES:
        raise OptionInvalid(f"--device {kind} is none of PyTorch's; write auto, cpu, cuda, cuda:1 or mps")
    if values["class_weights"] not in ("", BALANCED):
        from zoo.training.learn.weighting import check_weights

        check_weights(values["class_weights"])


def _check_optimizer(name: str) -> None:
    words, known = optimizer_names()
    if words and name not in words:
        raise OptionInvalid(unknown_optimizer(name, known))


def _check_backbone(catalogue: Catalogue, values: Mapping[str, Any]) -> None:
    choice, options = catalogue.backbone(values["model"]), values["backbone_options"]
    if not choice.member:
        _check_option_names(choice.plugin, options, f"model {choice.name!r}")
    elif check := getattr(catalogue.family(choice.plugin), "check", None):
        check(choice.member, options)


def _check_augmentation(catalogue: Catalogue, values: Mapping[str, Any]) -> None:
    name = values["augment"]
    _check_option_names(find_augmentation(catalogue, name), values["augment_options"], f"augmentation {name!r}")
    if is_pipeline_file(name) and not Path(name).expanduser().is_file():
        raise OptionInvalid(f"{name}: no such pipeline; check the path")


def _check_option_names(plugin: Plugin, given: Mapping[str, Any], owner: str) -> None:
    """Refuse an option that the plugin's source does not have; a source that cannot be read tells nothing."""
    found = read(plugin.entry_point)
    stray = [name for name in given if name not in found.options]
    if found.closed and stray:
        raise OptionInvalid(unknown_option(owner, stray[0], found.options))


def _own_dataset(catalogue: Catalogue, values: Mapping[str, Any]) -> Dataset | None:
    name, options = values["dataset"], values["dataset_options"]
    plugin = plugin_of(catalogue, name)
    if is_users_own(plugin):
        return open_dataset(catalogue, lasting_name(catalogue, name), lasting_options(options))
    _check_option_names(plugin, options, f"dataset {name!r}")
    return None
