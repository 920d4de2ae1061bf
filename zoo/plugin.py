"""The page that plugin authors import: every contract, and the helpers to meet them; names only, no code."""

from __future__ import annotations

from zoo.catalogue.installed import API_VERSION
from zoo.contracts.deprecation import deprecated
from zoo.contracts.plugins import (
    PRECISIONS,
    Attempt,
    BackboneFamily,
    CropsFirst,
    Dataset,
    Exporter,
    ExportRequest,
    Image,
    Made,
    Predictor,
    ResizesInGraph,
    Score,
    Split,
    TellsSaturation,
    TellsUnknown,
    Tracker,
)
from zoo.contracts.preprocess import Preprocess
from zoo.contracts.target import Target
from zoo.contracts.unknown import Unknown
from zoo.data.folders import image_files, image_folder
from zoo.data.tables import csv_dataset
from zoo.disk.fetch import download
from zoo.disk.unpack import extract
from zoo.errors import ArtifactInvalid, DatasetInvalid, ExportUnsupported, OptionInvalid, WeightsUnavailable

__all__ = [
    "API_VERSION",
    "PRECISIONS",
    "ArtifactInvalid",
    "Attempt",
    "BackboneFamily",
    "CropsFirst",
    "Dataset",
    "DatasetInvalid",
    "ExportRequest",
    "ExportUnsupported",
    "Exporter",
    "Image",
    "Made",
    "OptionInvalid",
    "Predictor",
    "Preprocess",
    "ResizesInGraph",
    "Score",
    "Split",
    "Target",
    "TellsSaturation",
    "TellsUnknown",
    "Tracker",
    "Unknown",
    "WeightsUnavailable",
    "csv_dataset",
    "deprecated",
    "download",
    "extract",
    "image_files",
    "image_folder",
]
