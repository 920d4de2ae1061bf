"""What runs on the device: numpy, onnxruntime, Pillow and the standard library; nothing else of zoo.

A bundle carries these files as they are, under the name `zoo_runtime`; hence the relative imports, and Python 3.9.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .model import Model as Model

__all__ = ["Model"]

# onnxruntime reads it once, at its own import, and would otherwise contact the network.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> object:
    if name != "Model":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .model import Model

    return Model
