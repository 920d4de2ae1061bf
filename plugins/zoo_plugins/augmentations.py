"""Augmentations for training: none, light for small upright pictures, standard for photos."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from zoo.errors import OptionInvalid

if TYPE_CHECKING:
    import albumentations as A

ZOO_API = 1


def none(height: int, width: int) -> A.Compose:
    """Resize to cover, crop the centre: nothing is random."""
    import albumentations as A

    from zoo_plugins.transforms import Cover

    return A.Compose([Cover(height, width)])


def light(height: int, width: int, *, strength: float = 1.0) -> A.Compose:
    """Shift, turn and scale a little, change the light a little; never mirror, so that digits stay digits.

    Args:
        height: Of the result, in pixels.
        width: Of the result, in pixels.
        strength: How much of it: 0 is off, 1 is the usual, more is more.

    Raises:
        OptionInvalid: `strength` is negative or not finite.
    """
    _check("light", strength)
    if strength == 0:
        return none(height, width)
    import albumentations as A
    import cv2

    from zoo_plugins.transforms import Cover

    shift = min(0.1 * strength, 0.5)
    light_change = min(0.15 * strength, 0.9)
    return A.Compose(
        [
            Cover(height, width),
            A.Affine(
                rotate=(-min(10 * strength, 180), min(10 * strength, 180)),
                translate_percent=(-shift, shift),
                scale=(max(0.9**strength, 0.1), min(1.1**strength, 10)),
                border_mode=cv2.BORDER_REPLICATE,
                p=1.0,
            ),
            A.RandomBrightnessContrast(brightness_limit=light_change, contrast_limit=light_change, p=0.5),
        ]
    )


def standard(height: int, width: int, *, strength: float = 1.0) -> A.Compose:
    """Crop at random, mirror, jitter the colours: what photos of things are trained with.

    Args:
        height: Of the result, in pixels.
        width: Of the result, in pixels.
        strength: How much of it: 0 is off, 1 is the usual, more is more.

    Raises:
        OptionInvalid: `strength` is negative or not finite.
    """
    _check("standard", strength)
    if strength == 0:
        return none(height, width)
    import albumentations as A

    from zoo_plugins.transforms import RandomCrop

    widest = (4 / 3) ** min(strength, 3)
    jitter = min(0.3 * strength, 0.9)
    around_one = (1 - jitter, 1 + jitter)
    return A.Compose(
        [
            RandomCrop((height, width), scale=(max(1 - 0.65 * strength, 0.08), 1.0), ratio=(1 / widest, widest), p=1.0),
            A.HorizontalFlip(p=min(0.5 * strength, 0.5)),
            # A turn of the hue costs more than all the rest, and colours often tell classes apart.
            A.ColorJitter(brightness=around_one, contrast=around_one, saturation=around_one, hue=(0, 0), p=0.8),
        ]
    )


def _check(name: str, strength: float) -> None:
    if not math.isfinite(strength) or strength < 0:
        raise OptionInvalid(f"option strength={strength} of augmentation {name!r} must be 0 (off) or a larger number")
