"""Calibration images for the int8 exporters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.errors import ExportUnsupported

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from zoo.plugin import ExportRequest


def calibration_batches(request: ExportRequest) -> Iterator[np.ndarray]:
    """Yield one pass over the calibration images, uint8 [n, H, W, 3].

    Raises:
        ExportUnsupported: there is not a single image.
    """
    images = 0
    for batch in request.calibration():
        images += len(batch)
        if len(batch):
            yield batch
    if not images:
        raise ExportUnsupported(
            f"{request.precision} needs calibration images and the training split gave none; add images or use --fp32"
        )
