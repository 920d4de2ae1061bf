"""The augmentations: any picture in, the asked size out, the same for the same seed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from zoo.errors import OptionInvalid
from zoo_plugins import augmentations

MAKERS = [augmentations.none, augmentations.light, augmentations.standard]
RANDOM = [augmentations.light, augmentations.standard]
SHAPES = [(8, 8), (50, 300), (300, 50), (1, 1), (1, 900), (900, 1), (31, 33), (480, 640)]


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    """Return a picture in which a place can be told by its colour: red grows to the right, green downwards."""
    red, green = np.meshgrid(np.linspace(20, 235, width), np.linspace(20, 235, height))
    return np.stack([red, green, np.full_like(red, 128)], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [(32, 32), (48, 20)])
def test_any_picture_becomes_uint8_of_the_asked_size(
    make: Callable[..., Any], shape: tuple[int, int], size: tuple[int, int]
) -> None:
    transform = make(*size)
    for _ in range(5):
        image = transform(image=picture(*shape))["image"]
        assert image.dtype == np.uint8
        assert image.shape == (*size, 3)
        assert image.flags.c_contiguous


@pytest.mark.parametrize("make", MAKERS)
def test_the_input_is_left_as_it_was(make: Callable[..., Any]) -> None:
    image = picture(32, 32)
    before = image.copy()
    make(32, 32)(image=image)["image"][:] = 0
    assert np.array_equal(image, before)


@pytest.mark.parametrize("make", RANDOM)
def test_the_same_seed_gives_the_same_pictures(make: Callable[..., Any]) -> None:
    def three(seed: int) -> np.ndarray:
        transform = make(32, 32)
        transform.set_random_seed(seed)
        return np.stack([transform(image=smooth(60, 80))["image"] for _ in range(3)])

    first = three(5)
    assert np.array_equal(first, three(5))
    assert not np.array_equal(first, three(6))
    assert not np.array_equal(first[0], first[1])


@pytest.mark.parametrize("make", RANDOM)
def test_strength_0_is_the_plain_resize(make: Callable[..., Any]) -> None:
    image = picture(50, 70)
    plain = augmentations.none(32, 32)(image=image)["image"]
    assert np.array_equal(make(32, 32, strength=0)(image=image)["image"], plain)


@pytest.mark.parametrize("make", RANDOM)
def test_more_strength_changes_more(make: Callable[..., Any]) -> None:
    image = smooth(64, 64)

    def change(strength: float) -> float:
        transform = make(64, 64, strength=strength)
        transform.set_random_seed(0)
        made = np.stack([transform(image=image)["image"] for _ in range(60)]).astype(float)
        return float(np.abs(made - image).mean())

    assert 0 < change(0.2) < change(1.0) < change(3.0)


@pytest.mark.parametrize("make", RANDOM)
def test_extreme_strength_still_gives_pictures(make: Callable[..., Any]) -> None:
    assert make(32, 32, strength=1000.0)(image=picture(40, 60))["image"].shape == (32, 32, 3)


@pytest.mark.parametrize("make", RANDOM)
@pytest.mark.parametrize("strength", [-0.1, float("nan"), float("inf")])
def test_a_senseless_strength_is_refused_in_one_line(make: Callable[..., Any], strength: float) -> None:
    with pytest.raises(OptionInvalid, match="strength") as caught:
        make(32, 32, strength=strength)
    assert "\n" not in str(caught.value)


def test_none_keeps_the_centre_and_the_proportions() -> None:
    image = smooth(100, 300)
    made = augmentations.none(50, 50)(image=image)["image"].astype(int)
    centre = image[:, 100:200].astype(int)
    assert abs(made[25, 25] - centre[50, 50]).max() <= 2
    assert abs(made[0, 0] - centre[0, 0]).max() <= 3
    assert abs(made[-1, -1] - centre[-1, -1]).max() <= 3


def test_none_does_not_alias() -> None:
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    made = augmentations.none(32, 32)(image=stripes)["image"]
    assert abs(made.astype(int) - 127).max() <= 2


def test_light_never_mirrors_and_moves_little() -> None:
    image = smooth(64, 64)
    transform = augmentations.light(64, 64)
    for seed in range(40):
        transform.set_random_seed(seed)
        made = transform(image=image)["image"].astype(int)
        assert made[32, 50, 0] > made[32, 14, 0]
        assert made[50, 32, 1] > made[14, 32, 1]


def test_light_fills_the_border_with_what_is_there() -> None:
    white = np.full((8, 8, 3), 200, np.uint8)
    transform = augmentations.light(32, 32)
    for seed in range(20):
        transform.set_random_seed(seed)
        made = transform(image=white)["image"]
        assert len(np.unique(made)) == 1


def test_standard_mirrors_half_of_the_pictures() -> None:
    image = smooth(64, 64)
    transform = augmentations.standard(64, 64)
    transform.set_random_seed(0)
    mirrored = sum(made[32, 60, 0] < made[32, 4, 0] for made in (transform(image=image)["image"] for _ in range(200)))
    assert 70 <= mirrored <= 130


def test_standard_sees_between_a_third_and_all_of_a_picture() -> None:
    transform = augmentations.standard(64, 64)
    transform.set_random_seed(0)
    shares = []
    for _ in range(100):
        top, left, bottom, right = transform.choose_crop(128, 128)
        shares.append((right - left) * (bottom - top) / 128**2)
    assert 0.33 < min(shares) < 0.45
    assert max(shares) > 0.9
