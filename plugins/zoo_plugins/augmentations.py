"""Augmentations for training: none, light for small upright pictures, standard for photos, heavy and randaugment."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from zoo.errors import OptionInvalid

if TYPE_CHECKING:
    import albumentations as A

    from zoo_plugins.transforms import RandomArea

ZOO_API = 1
SMALLEST, JITTER = 0.35, 0.3


def none(height: int, width: int) -> A.Compose:
    """Resize to cover, crop the centre: nothing is random."""
    from zoo_plugins.transforms import Cover, CropFirst

    return CropFirst(height, width, Cover(height, width), [])


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

    from zoo_plugins.transforms import Cover, CropFirst

    shift = min(0.1 * strength, 0.5)
    light_change = min(0.15 * strength, 0.9)
    return CropFirst(
        height,
        width,
        Cover(height, width),
        [
            A.Affine(
                rotate=(-min(10 * strength, 180), min(10 * strength, 180)),
                translate_percent=(-shift, shift),
                scale=(max(0.9**strength, 0.1), min(1.1**strength, 10)),
                border_mode=cv2.BORDER_REPLICATE,
                p=1.0,
            ),
            A.RandomBrightnessContrast(brightness_limit=light_change, contrast_limit=light_change, p=0.5),
        ],
    )


def standard(
    height: int, width: int, *, strength: float = 1.0, smallest: float = SMALLEST, jitter: float = JITTER
) -> A.Compose:
    """Crop at random, mirror, jitter the colours: what photos of things are trained with.

    Args:
        height: Of the result, in pixels.
        width: Of the result, in pixels.
        strength: How much of it: 0 is off, 1 is the usual, more is more.
        smallest: Share of the image's area that the smallest crop keeps, above 0 and at most 1.
        jitter: Largest change of brightness, contrast and saturation, 0 to 0.9; 0 leaves colours alone.

    Raises:
        OptionInvalid: an option is out of range.
    """
    _check("standard", strength)
    if not 0 < smallest <= 1:
        raise OptionInvalid(f"option smallest={smallest} of augmentation 'standard' must lie above 0 and up to 1")
    if not 0 <= jitter <= 0.9:
        raise OptionInvalid(f"option jitter={jitter} of augmentation 'standard' must lie in 0..0.9")
    if strength == 0:
        return none(height, width)
    from zoo_plugins.transforms import CropFirst

    return CropFirst(height, width, _crop(strength, smallest), _mirror_and_jitter(strength, jitter))


def _crop(strength: float, smallest: float) -> RandomArea:
    from zoo_plugins.transforms import RandomArea

    widest = (4 / 3) ** min(strength, 3)
    return RandomArea((max(1 - (1 - smallest) * strength, min(0.08, smallest)), 1.0), (1 / widest, widest))


def _mirror_and_jitter(strength: float, jitter: float) -> list[A.BasicTransform]:
    import albumentations as A

    mirror = A.HorizontalFlip(p=min(0.5 * strength, 0.5))
    change = min(jitter * strength, 0.9)
    if not change:
        return [mirror]
    around_one = (1 - change, 1 + change)
    # A turn of the hue costs more than all the rest, and colours often tell classes apart.
    return [mirror, A.ColorJitter(brightness=around_one, contrast=around_one, saturation=around_one, hue=(0, 0), p=0.8)]


def heavy(height: int, width: int, *, strength: float = 1.0) -> A.Compose:
    """Standard, with turns, blur, noise, washed-out colours and holes: for few images, or long training.

    Args:
        height: Of the result, in pixels.
        width: Of the result, in pixels.
        strength: How much of it: 0 is off, 1 is the usual, more is more.

    Raises:
        OptionInvalid: `strength` is negative or not finite.
    """
    _check("heavy", strength)
    if strength == 0:
        return none(height, width)
    import albumentations as A
    import cv2

    from zoo_plugins.transforms import CropFirst

    chance = min(0.3 * strength, 1.0)
    turn = min(20 * strength, 180)
    shift = min(0.1 * strength, 0.5)
    return CropFirst(
        height,
        width,
        _crop(strength, SMALLEST),
        [
            *_mirror_and_jitter(strength, JITTER),
            A.Affine(
                rotate=(-turn, turn),
                translate_percent=(-shift, shift),
                border_mode=cv2.BORDER_REFLECT_101,
                p=min(0.5 * strength, 1.0),
            ),
            A.OneOf([A.GaussianBlur(blur_limit=(3, 5)), A.GaussNoise(std_range=(0.02, 0.1))], p=chance),
            A.ToGray(p=0.1),
            A.CoarseDropout(
                num_holes_range=(1, 3), hole_height_range=(0.1, 0.3), hole_width_range=(0.1, 0.3), p=chance
            ),
        ],
    )


def randaugment(height: int, width: int, *, operations: int = 2, magnitude: float = 9.0) -> A.Compose:
    """Crop and mirror, then some operations chosen at random (after Cubuk et al., RandAugment, 2019, arXiv 1909.13719).

    Args:
        height: Of the result, in pixels.
        width: Of the result, in pixels.
        operations: How many are applied to each image, 1 to 14.
        magnitude: Of each, from 0 to 30 as in the paper.

    Raises:
        OptionInvalid: an option is out of range.
    """
    if not 1 <= operations <= 14:
        raise OptionInvalid(f"option operations={operations} of augmentation 'randaugment' must lie in 1..14")
    if not 0 <= magnitude <= 30:
        raise OptionInvalid(f"option magnitude={magnitude} of augmentation 'randaugment' must lie in 0..30")
    import albumentations as A

    from zoo_plugins.transforms import CropFirst

    some = A.SomeOf(_operations(magnitude / 30), n=operations, replace=False, p=1.0)
    return CropFirst(height, width, _crop(1.0, SMALLEST), [*_mirror_and_jitter(1.0, 0), some])


def _operations(level: float) -> list[A.BasicTransform]:
    """Return the paper's operations; `level` in 0..1 goes from nothing to its largest ranges."""
    import albumentations as A
    import cv2

    change, edge = 0.9 * level, {"border_mode": cv2.BORDER_CONSTANT, "fill": 128, "p": 1.0}
    around_one, one = (1 - change, 1 + change), (1.0, 1.0)
    still = {"brightness": one, "contrast": one, "saturation": one, "hue": (0, 0), "p": 1.0}
    return [
        A.NoOp(p=1.0),
        A.AutoContrast(p=1.0),
        A.Equalize(p=1.0),
        A.Affine(rotate=(-30 * level, 30 * level), **edge),
        A.Affine(shear={"x": (-17 * level, 17 * level), "y": (0, 0)}, **edge),
        A.Affine(shear={"x": (0, 0), "y": (-17 * level, 17 * level)}, **edge),
        A.Affine(translate_percent={"x": (-0.45 * level, 0.45 * level), "y": (0, 0)}, **edge),
        A.Affine(translate_percent={"x": (0, 0), "y": (-0.45 * level, 0.45 * level)}, **edge),
        A.Posterize(num_bits=max(1, 8 - round(4 * level)), p=1.0),
        A.Solarize(threshold_range=(1 - level, 1 - level), p=1.0),
        A.ColorJitter(**{**still, "brightness": around_one}),
        A.ColorJitter(**{**still, "contrast": around_one}),
        A.ColorJitter(**{**still, "saturation": around_one}),
        A.Sharpen(alpha=(0.0, change), lightness=one, p=1.0),
    ]


def _check(name: str, strength: float) -> None:
    if not math.isfinite(strength) or strength < 0:
        raise OptionInvalid(f"option strength={strength} of augmentation {name!r} must be 0 (off) or a larger number")
