"""Images that turn out to be broken while a run goes on: left out by name, refused if there are too many."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.data.prepared import name_of
from zoo.data.screen import MAX_BROKEN_SHARE, refuse_if_too_many

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zoo.contracts.plugins import Image
    from zoo.errors import ImageUnreadable


class Faults:
    """Name -> why, in the order in which they were found; several threads may note some."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    def note(self, images: Sequence[Image], index: int, fault: ImageUnreadable) -> None:
        """Take note of an image.

        Raises:
            DatasetInvalid: more than one in a hundred of `images` is broken.
        """
        name = name_of(images, index, "train")
        if name not in self.found:
            self.found[name] = str(fault).removeprefix(f"{name} ").removeprefix("an image in memory ")
            refuse_if_too_many(self.found, len(images), MAX_BROKEN_SHARE, "this dataset")
