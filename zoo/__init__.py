"""A plugin-based image-classification model zoo with edge export."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from zoo import errors

if TYPE_CHECKING:
    from zoo.catalogue.listing import augmentations, datasets, exporters, models, recipes, targets, trackers
    from zoo.deploy.door import bundle, verify
    from zoo.exporting.door import evaluate, export, predict
    from zoo.records.artifact import Artifact
    from zoo.records.find import load
    from zoo.records.listing import runs
    from zoo.records.run import Run
    from zoo.training.start import train

__all__ = [
    "Artifact",
    "Run",
    "__version__",
    "augmentations",
    "bundle",
    "datasets",
    "errors",
    "evaluate",
    "export",
    "exporters",
    "load",
    "models",
    "predict",
    "recipes",
    "runs",
    "targets",
    "trackers",
    "train",
    "verify",
]
__version__ = "0.1.0"

# Both libraries read these once, at their own import, and would otherwise contact the network. Every way into zoo
# passes through this file first, so this is the one place where they are set; a user's own setting is respected.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

_LISTED = ("augmentations", "datasets", "exporters", "models", "recipes", "targets", "trackers")
_DOORS = {
    **dict.fromkeys(_LISTED, "zoo.catalogue.listing"),
    **dict.fromkeys(("bundle", "verify"), "zoo.deploy.door"),
    **dict.fromkeys(("evaluate", "export", "predict"), "zoo.exporting.door"),
    "Artifact": "zoo.records.artifact",
    "Run": "zoo.records.run",
    "load": "zoo.records.find",
    "runs": "zoo.records.listing",
    "train": "zoo.training.start",
}
"""Name -> the module that has it: `import zoo` loads none of them."""


if not TYPE_CHECKING:  # or a type checker would believe in any name

    def __getattr__(name: str) -> Any:
        if name not in _DOORS:
            raise AttributeError(f"module 'zoo' has no attribute {name!r}")
        return getattr(importlib.import_module(_DOORS[name]), name)


def __dir__() -> list[str]:
    return __all__
