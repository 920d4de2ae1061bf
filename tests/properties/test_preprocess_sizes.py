"""Pixels of any image, from 1 by 1 up and of any kind: the promised shape, uint8, and no level that was not there."""

from __future__ import annotations

import io
import json
import tracemalloc
from typing import get_args

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from zoo.contracts.preprocess import Crop, Interpolation, Preprocess
from zoo.runtime.pixels import PixelError, decode, prepare

SIDES = st.integers(1, 70)
SMALL = st.integers(1, 24)
FRACTIONS = st.floats(0.2, 1) | st.sampled_from([0.875, 0.95, 1.0])
CROPS, KERNELS = get_args(Crop), get_args(Interpolation)
PREPROCESS = st.builds(
    Preprocess,
    size=st.tuples(SMALL, SMALL),
    crop=st.sampled_from(CROPS),
    crop_fraction=FRACTIONS,
    interpolation=st.sampled_from(KERNELS),
)
PICTURES = hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(3)))


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@given(SIDES, SIDES, PREPROCESS)
@example(1, 1, Preprocess(size=(224, 224)))
@example(1, 70, Preprocess(size=(24, 24)))
@example(70, 1, Preprocess(size=(1, 24), crop="border"))
@example(2, 3, Preprocess(size=(23, 24), crop_fraction=0.999))
def test_any_image_becomes_the_promised_size(height: int, width: int, preprocess: Preprocess) -> None:
    image = noise(height, width)
    before = image.copy()
    found = preprocess.prepare(image)
    assert found.shape == (*preprocess.size, 3)
    assert found.dtype == np.uint8
    assert np.array_equal(image, before)


@given(SIDES, SIDES, PREPROCESS, st.integers(0, 255))
def test_one_colour_stays_that_colour(height: int, width: int, preprocess: Preprocess, level: int) -> None:
    found = preprocess.prepare(np.full((height, width, 3), level, np.uint8))
    allowed = {level, 0} if preprocess.crop == "border" else {level}
    assert set(np.unique(found).tolist()) <= allowed
    assert (found == level).any()


@given(PICTURES, st.sampled_from(CROPS), st.sampled_from(KERNELS))
def test_an_image_of_the_right_size_is_left_as_it_is(image: np.ndarray, crop: str, kernel: str) -> None:
    assert np.array_equal(prepare(image, (image.shape[0], image.shape[1]), crop, 1.0, kernel), image)


@given(PICTURES, st.tuples(SMALL, SMALL), st.sampled_from(CROPS))
def test_the_nearest_kernel_invents_no_colour(image: np.ndarray, size: tuple[int, int], crop: str) -> None:
    found = prepare(image, size, crop, 0.875, "nearest").reshape(-1, 3)
    there = {tuple(pixel) for pixel in image.reshape(-1, 3).tolist()}
    if crop == "border":
        there.add((0, 0, 0))
    assert {tuple(pixel) for pixel in found.tolist()} <= there


@pytest.mark.xfail(
    strict=True,
    reason="pixels._center: all is scaled before the middle is cut out; of 1 by 3000, for 224, that is 2 GB",
)
def test_a_narrow_image_takes_no_more_memory_than_its_pixels_need() -> None:
    image = noise(1, 400)
    tracemalloc.start()
    try:
        found = Preprocess(size=(32, 32)).prepare(image)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 100 * (image.nbytes + found.nbytes)


@given(PREPROCESS)
def test_it_comes_back_from_what_is_stored(preprocess: Preprocess) -> None:
    assert Preprocess.from_json(json.loads(json.dumps(preprocess.to_json()))) == preprocess


MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")


def encoded(image: np.ndarray, mode: str, form: str = "PNG") -> bytes:
    out = io.BytesIO()
    picture = Image.fromarray(image)
    if mode == "I;16":
        picture = Image.fromarray(image[:, :, 0].astype(np.uint16) * 257)
    (picture if mode == "I;16" else picture.convert(mode)).save(out, form)
    return out.getvalue()


@given(PICTURES, st.sampled_from(MODES))
def test_any_kind_of_file_becomes_rgb(image: np.ndarray, mode: str) -> None:
    found = decode(encoded(image, mode))
    assert found.shape == image.shape
    assert found.dtype == np.uint8
    if mode in ("RGB", "RGBA"):
        assert np.array_equal(found, image)
    if mode == "I;16":
        assert np.array_equal(found, np.repeat(image[:, :, :1], 3, 2))


SOUND = tuple(
    encoded(noise(9, 7), mode, form)
    for mode, form in (("RGB", "PNG"), ("RGB", "JPEG"), ("P", "GIF"), ("L", "BMP"), ("RGB", "TIFF"), ("RGB", "WEBP"))
)


@given(st.sampled_from(SOUND), st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=4), st.integers(0))
def test_a_damaged_file_becomes_rgb_or_is_refused(sound: bytes, damage: list[tuple[int, int]], cut: int) -> None:
    content = bytearray(sound)
    for offset, value in damage:
        content[offset % len(content)] = value
    content = content[: cut % (2 * len(content))]
    try:
        found = decode(bytes(content), max_pixels=10_000)
    except PixelError as exc:
        text = str(exc)
        found = None
    if found is None:
        assert len(text.splitlines()) == 1, text
    else:
        assert found.dtype == np.uint8
        assert found.shape[2:] == (3,)
