"""An augmentation's name or file -> the plugin and its checked options, ready to be made."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.catalogue.calling import blaming, guest
from zoo.catalogue.installed import OURS
from zoo.catalogue.options import check, options_of
from zoo.contracts.plugins import CropsFirst
from zoo.errors import ContractBroken

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    import numpy as np

    from zoo.catalogue import Catalogue
    from zoo.catalogue.installed import Plugin

FILE_PLUGIN = f"{OURS}/file"
"""The plugin that `--augment FILE` is short for."""


class _Guarded:
    """A stranger's augmentation: what it raises, and what it returns amiss, is told as its plugin's fault."""

    def __init__(self, plugin: Plugin, made: Any, size: tuple[int, int]) -> None:
        self._plugin = plugin
        self._made = made
        self._shape = (*size, 3)

    def set_random_state(self, random_generator: np.random.Generator, py_random: random.Random) -> None:
        with blaming(self._plugin):
            self._made.set_random_state(random_generator, py_random)

    def __call__(self, *, image: np.ndarray) -> dict[str, np.ndarray]:
        with blaming(self._plugin):
            result = self._made(image=image)
        return self._checked(result)

    def _checked(self, result: object) -> dict[str, np.ndarray]:
        import numpy as np

        pixels = result.get("image") if isinstance(result, Mapping) else None
        if isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.shape == self._shape:
            return {"image": pixels}
        got = f"{pixels.dtype} {list(pixels.shape)}" if isinstance(pixels, np.ndarray) else type(result).__name__
        raise ContractBroken(
            f"augmentation {self._plugin.name!r} from {self._plugin.owner} returned {got}, expected a dictionary "
            f"with uint8 {list(self._shape)} at 'image'; mend that package, or do without it"
        )


class _GuardedCropsFirst(_Guarded):
    """The same for one that chooses its crop first."""

    def choose_crop(self, height: int, width: int) -> tuple[int, int, int, int]:
        with blaming(self._plugin):
            top, left, bottom, right = self._made.choose_crop(height, width)
        return top, left, bottom, right

    def finish(self, *, image: np.ndarray, out: np.ndarray | None = None) -> dict[str, np.ndarray]:
        with blaming(self._plugin):
            result = self._made.finish(image=image, out=out)
        return self._checked(result)


def find_augmentation(catalogue: Catalogue, name: str) -> Plugin:
    """Return the plugin that `--augment NAME|FILE` means."""
    return catalogue.find("augmentation", FILE_PLUGIN if is_pipeline_file(name) else name)


def augmentation_maker(
    catalogue: Catalogue, name: str, options: Mapping[str, Any], size: tuple[int, int]
) -> Callable[[], Any]:
    """Return what makes one for images of `size` (height, width): each thread of a loader has its own.

    Raises:
        UnknownName, DuplicateName, PluginBroken, OptionInvalid: as the catalogue and the options tell.
    """
    plugin = find_augmentation(catalogue, name)
    make = catalogue.load(plugin)
    given = {"path": name, **options} if is_pipeline_file(name) else options
    checked = check(given, options_of(make), f"augmentation {name!r}")

    def make_one() -> Any:
        with blaming(plugin):
            made = make(*size, **checked)
        guest(plugin, made, "__call__", "set_random_state")
        kind = _GuardedCropsFirst if isinstance(made, CropsFirst) else _Guarded
        return kind(plugin, made, size)

    return make_one


def is_pipeline_file(name: str) -> bool:
    """Tell a file from a plugin's name."""
    return name.startswith((".", "~", os.sep)) or Path(name).suffix.lower() in (".json", ".yaml", ".yml")


def lasting_file(name: str) -> str:
    """Return a name that means the same from any folder: a file's path becomes absolute."""
    return str(Path(name).expanduser().resolve()) if is_pipeline_file(name) else name
