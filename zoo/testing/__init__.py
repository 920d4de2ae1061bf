"""Contract suites for plugins: inherit one in three lines, and each of its tests is a promise that zoo relies on.

from zoo.testing import DatasetContract

class TestFlowers(DatasetContract):
    name = "flowers"
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.testing.augmentation import AugmentationContract
    from zoo.testing.backbone import BackboneContract
    from zoo.testing.dataset import DatasetContract
    from zoo.testing.exporter import ExporterContract
    from zoo.testing.tracker import TrackerContract

__all__ = [
    "AugmentationContract",
    "BackboneContract",
    "DatasetContract",
    "ExporterContract",
    "TrackerContract",
]


def __getattr__(name: str) -> Any:
    """Import a suite when it is asked for: a dataset's tests, and their new processes, need no torch."""
    if name not in __all__:
        raise AttributeError(f"module 'zoo.testing' has no attribute {name!r}")
    return getattr(importlib.import_module(f"zoo.testing.{name.removesuffix('Contract').lower()}"), name)
