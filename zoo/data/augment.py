"""An augmentation's name or file -> the plugin and its checked options, ready to be made."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import PluginBroken, ZooError, first_line
from zoo.installed import OURS
from zoo.options import check, options_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from zoo.catalogue import Catalogue
    from zoo.installed import Plugin

FILE_PLUGIN = f"{OURS}/file"
"""The plugin that `--augment FILE` is short for."""


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
        try:
            return make(*size, **checked)
        except (ZooError, KeyboardInterrupt):
            raise
        except Exception as exc:
            reason = f"{type(exc).__name__}: {first_line(exc)}"
            raise PluginBroken(f"augmentation {name!r} from {plugin.owner} failed: {reason}") from exc

    return make_one


def is_pipeline_file(name: str) -> bool:
    """Tell a file from a plugin's name."""
    return name.startswith((".", "~", os.sep)) or Path(name).suffix.lower() in (".json", ".yaml", ".yml")


def lasting_file(name: str) -> str:
    """Return a name that means the same from any folder: a file's path becomes absolute."""
    return str(Path(name).expanduser().resolve()) if is_pipeline_file(name) else name
