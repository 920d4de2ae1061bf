"""A dataset's name or folder -> the plugin's `Dataset`, its contract checked in words."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from zoo.catalogue.calling import blaming, failed, guest
from zoo.catalogue.installed import OURS
from zoo.catalogue.options import check, options_of
from zoo.contracts.plugins import Dataset, Image, Split
from zoo.disk.home import zoo_home
from zoo.errors import ContractBroken, DatasetInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zoo.catalogue import Catalogue
    from zoo.catalogue.installed import Plugin

PATTERN = re.compile(r"[*?\[{]")
"""What several files are written with."""
FOLDER_PLUGIN = f"{OURS}/folder"
"""The plugin that `--dataset ./some/dir` is short for."""


class GuestImages(Sequence["Image"]):
    """A stranger's images, perhaps lazy: one that cannot be had is told by its number, and whose it is."""

    def __init__(self, plugin: Plugin, images: Sequence[Image], split: str) -> None:
        self._plugin = plugin
        self._images = images
        self._split = split
        with blaming(plugin, f"at the number of images of {split}"):
            self._count = len(images)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Image]: ...
    def __getitem__(self, index: int | slice) -> Image | Sequence[Image]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(self._count))]
        # Python's own protocol of sequences: whoever walks through them waits for it.
        place = range(self._count)[index]
        with blaming(self._plugin, f"at image {place} of {self._split}"):
            image = self._images[place]
        import numpy as np

        if not isinstance(image, Path | bytes | np.ndarray):
            raise ContractBroken(
                f"{failed(self._plugin, f'at image {place} of {self._split}')}: it gives a {type(image).__name__}, "
                "not a Path, bytes or a numpy array; mend that package, or do without it"
            )
        return image

    def __getattr__(self, name: str) -> Any:
        # The optional `byte_sizes` and `name` exist where the stranger's sequence has them.
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(guest(self._plugin, self._images), name)


def plugin_of(catalogue: Catalogue, name: str) -> Plugin:
    """Return the plugin behind `--dataset NAME|DIR`; nothing of it is imported.

    Raises:
        UnknownName, DuplicateName: as the catalogue tells.
    """
    if _is_path(catalogue, name):
        return catalogue.find("dataset", FOLDER_PLUGIN)
    entry = catalogue.registry.datasets.get(name)
    return catalogue.find("dataset", entry.plugin if entry and entry.plugin else name)


def locate(catalogue: Catalogue, name: str, options: Mapping[str, Any]) -> tuple[Plugin, dict[str, Any]]:
    """Find the plugin behind `--dataset NAME|DIR` and check its options, without preparing anything.

    Raises:
        UnknownName, DuplicateName, PluginBroken, OptionInvalid: as the catalogue and the options tell.
    """
    entry = catalogue.registry.datasets.get(name)
    given = {**(entry.options if entry else {}), **options}
    if _is_path(catalogue, name):
        given = {"path": name, **given}
    plugin = plugin_of(catalogue, name)
    return plugin, check(given, options_of(catalogue.load(plugin)), f"dataset {name!r}")


def open_dataset(catalogue: Catalogue, name: str, options: Mapping[str, Any]) -> Dataset:
    """Let the plugin prepare what is missing, and return what it describes.

    Raises:
        ContractBroken: the plugin described something that is no dataset; the clause is named.
        PluginBroken: the plugin raised something that is no ZooError; its images may do so later.
    """
    plugin, checked = locate(catalogue, name, options)
    prepare = catalogue.load(plugin)
    root = zoo_home() / "datasets" / plugin.name
    with blaming(plugin):
        dataset = prepare(root, **checked)
    return _guarded(_checked(dataset, f"dataset {name!r} from {plugin.owner}"), plugin)


def lasting_name(catalogue: Catalogue, name: str) -> str:
    """Return a name that means the same from any folder: a path becomes absolute."""
    return str(Path(name).expanduser().resolve()) if _is_path(catalogue, name) else name


def lasting_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options that mean the same from any folder: what names files here, alone or by a pattern, is absolute."""
    return {key: _lasting(value) if isinstance(value, str) else value for key, value in options.items()}


def _lasting(value: str) -> str:
    if not value or "://" in value:
        return value
    try:
        path = Path(value).expanduser()
        names_files = path.exists() or (PATTERN.search(value) is not None and path.parent.is_dir())
    except (OSError, RuntimeError, ValueError):
        return value
    return str(path.absolute()) if names_files else value


def is_users_own(plugin: Plugin) -> bool:
    """Tell whether a dataset is the user's own images, which nobody else licenses to them."""
    return plugin.full_name in (FOLDER_PLUGIN, f"{OURS}/csv")


def short_name(name: str) -> str:
    """Return what a run's name says of the dataset: a folder's own name for a path."""
    return Path(name).expanduser().resolve().name if _looks_like_path(name) else name.rpartition("/")[2]


def _is_path(catalogue: Catalogue, name: str) -> bool:
    return _looks_like_path(name) or (
        Path(name).is_dir()
        and name not in catalogue.registry.datasets
        and all(p.name != name for p in catalogue.of_kind("dataset"))
    )


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "~", os.sep)) or Path(name).is_absolute() or (os.sep in name and Path(name).is_dir())


def _guarded(dataset: Dataset, plugin: Plugin) -> Dataset:
    """Return the same dataset, whose lazy images blame the plugin for what goes wrong when they are asked for."""
    splits = {
        name: replace(split, images=GuestImages(plugin, split.images, name))
        for name, split in dataset.splits.items()
        if not isinstance(split.images, list | tuple)
    }
    return replace(dataset, splits={**dataset.splits, **splits})


def _checked(dataset: object, owner: str) -> Dataset:
    if not isinstance(dataset, Dataset):
        raise ContractBroken(f"{owner} returned {type(dataset).__name__}, not a zoo.plugin.Dataset")
    if not all(isinstance(c, str) for c in dataset.classes) or len(set(dataset.classes)) != len(dataset.classes):
        raise ContractBroken(f"{owner}: classes must be different texts, got {dataset.classes!r}")
    if len(dataset.classes) < 2:
        raise DatasetInvalid(f"{owner} has {len(dataset.classes)} class; a classifier needs at least 2")
    if "train" not in dataset.splits:
        raise ContractBroken(f"{owner} has no split named 'train', only {sorted(dataset.splits)}")
    for name, split in dataset.splits.items():
        _check_split(split, f"{owner}, split {name!r}", len(dataset.classes), multi_label=dataset.multi_label)
    return dataset


def _check_split(split: Split, where: str, classes: int, *, multi_label: bool) -> None:
    import numpy as np

    labels = split.labels
    wanted = (np.uint8, (len(split), classes)) if multi_label else (np.int64, (len(split),))
    if not isinstance(labels, np.ndarray) or labels.dtype != wanted[0] or labels.shape != wanted[1]:
        got = f"{labels.dtype} {list(labels.shape)}" if isinstance(labels, np.ndarray) else type(labels).__name__
        raise ContractBroken(f"{where}: labels must be {np.dtype(wanted[0]).name} {list(wanted[1])}, got {got}")
    if len(split) == 0:
        raise DatasetInvalid(f"{where} holds no image")
    limit = 2 if multi_label else classes
    if labels.min() < 0 or labels.max() >= limit:
        raise ContractBroken(f"{where}: labels must lie in 0..{limit - 1}, got {labels.min()}..{labels.max()}")
