"""Contract suites for plugins: inherit one in three lines, and each of its tests is a promise that zoo relies on.

from zoo.testing import DatasetContract

class TestFlowers(DatasetContract):
    name = "flowers"
"""

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
