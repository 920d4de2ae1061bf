"""The augmentation for textures, which have no upright: turn, mirror, crop, change the light a little."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.plugin import OptionInvalid

if TYPE_CHECKING:
    import albumentations as A

ZOO_API = 1


def turn_and_flip(height: int, width: int, *, turns: bool = True, light: float = 0.1) -> A.Compose:
    """Turn and mirror at random, crop at random to `height` x `width`, change the light a little.

    Args:
        height: Pixels of the result, downwards.
        width: Pixels of the result, across.
        turns: Whether to turn by quarters and mirror; without it only the crop and the light change.
        light: How much brightness and contrast may change, from 0 (not at all) to 1.

    Raises:
        OptionInvalid: `light` is out of range.
    """
    if not 0 <= light <= 1:
        raise OptionInvalid(f"light={light} must lie between 0 and 1")
    import albumentations as A
    import cv2

    # Turned before it is cropped: a quarter turn of the result would swap its height and width.
    steps: list[A.BasicTransform] = [A.D4(p=1.0)] if turns else []
    steps.append(
        # Area, where the crop shrinks: a texture's fine grain turns into false stripes with any cheaper kernel.
        A.RandomResizedCrop(
            (height, width), scale=(0.5, 1.0), interpolation=cv2.INTER_LINEAR, area_for_downscale="image", p=1.0
        )
    )
    if light:
        steps.append(A.RandomBrightnessContrast(brightness_limit=light, contrast_limit=light, p=0.5))
    return A.Compose(steps)
