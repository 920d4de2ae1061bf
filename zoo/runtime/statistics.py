"""What an image looks like, in four numbers: to be compared with the proof's images, never to classify by."""

from __future__ import annotations

import numpy as np

NAMES = ("brightness", "contrast", "saturation", "sharpness")
MOST_SIDE = 128
"""Of the pixels that are looked at: every second, third, ... one of larger images."""
LUMA = np.array([0.299, 0.587, 0.114], np.float32) / 255


def image_statistics(image: np.ndarray) -> dict[str, float]:
    """Describe RGB uint8 [H, W, 3], as the network gets it; each number lies in 0..1.

    Brightness and contrast are mean and standard deviation of the luma (ITU-R BT.601), saturation the mean distance
    of the largest from the smallest channel, sharpness the mean step of luma from one pixel to the next.
    """
    step = max(1, -(-max(image.shape[:2]) // MOST_SIDE))
    seen = image[::step, ::step]
    luma = seen @ LUMA
    steps = [np.abs(np.diff(luma, axis=axis)).mean() for axis in (0, 1) if luma.shape[axis] > 1]
    return {
        "brightness": float(luma.mean()),
        "contrast": float(luma.std()),
        "saturation": float((seen.max(2) - seen.min(2)).mean()) / 255,
        "sharpness": float(np.mean(steps)) if steps else 0.0,
    }
