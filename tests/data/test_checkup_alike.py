"""Which pictures are the same: copies of photos are found, other photos are not, and every way of searching agrees."""

from __future__ import annotations

import io
from dataclasses import replace
from importlib.resources import files
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from zoo.data.checkup import alike
from zoo.data.checkup.alike import Trace, close_hashes, comparable, connected, equal, nearly_equal, trace_of

NAMES = ("astronaut", "camera", "chelsea", "coffee", "coins", "horse", "moon", "rocket", "clock_motion", "ihc")
"""Photos that come with scikit-image."""


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    found = []
    for name in NAMES:
        file = files("skimage") / "data" / f"{name}.{'jpg' if name == 'rocket' else 'png'}"
        with file.open("rb") as content:
            found.append(Image.open(content).convert("RGB"))
    return found


def traces(images: list[Image.Image]) -> list[Trace]:
    return [trace_of(np.asarray(image.convert("RGB"))) for image in images]


def again(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def copy(image: Image.Image, how: str) -> Image.Image:
    width, height = image.size
    match how:
        case "poor":
            return again(image, 25)
        case "half":
            return again(image.resize((width // 2, height // 2)), 75)
        case "double":
            return again(image.resize((width * 2, height * 2)), 75)
        case "square":
            return again(image.resize((300, 300)), 75)
        case "brighter":
            return again(ImageEnhance.Brightness(image).enhance(1.2), 85)
        case "darker":
            return again(ImageEnhance.Brightness(image).enhance(0.75), 85)
        case "contrast":
            return again(ImageEnhance.Contrast(image).enhance(1.3), 85)
        case "grey":
            return again(image.convert("L").convert("RGB"), 85)
        case "mirrored":
            return again(ImageOps.mirror(image), 70)
    cut = round(width * 0.03), round(height * 0.03)
    return again(image.crop((*cut, width - cut[0], height - cut[1])), 85)


def found(images: list[Image.Image], classes: list[int] | None = None) -> set[tuple[int, int, str]]:
    pairs = nearly_equal(traces(images), classes or [0] * len(images)).pairs
    return {(*sorted((pair.first, pair.second)), pair.how) for pair in pairs}  # type: ignore[misc]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        *((how, "") for how in ("poor", "half", "double", "square", "brighter", "darker", "contrast", "grey")),
        ("mirrored", "mirrored"),
        ("cut", "cropped"),
    ],
)
def test_copies_of_photos_are_found_and_nothing_else(photos: list[Image.Image], how: str, told: str) -> None:
    count = len(photos)
    pairs = found([*photos, *(copy(image, how) for image in photos)])
    assert {(first, second) for first, second, _ in pairs} == {(i, i + count) for i in range(count)}
    # A photo that is mostly flat survives a narrow cut even without being aligned.
    assert sum(kind == told for *_, kind in pairs) >= 0.7 * count


def test_a_picture_of_other_colours_is_another(photos: list[Image.Image]) -> None:
    coloured = photos[2]
    red, green, blue = coloured.split()
    assert found([coloured, Image.merge("RGB", (blue, green, red))]) == set()
    assert found([coloured, again(coloured, 50)]) == {(0, 1, "")}


def test_a_small_thing_that_is_added_makes_another_picture(photos: list[Image.Image]) -> None:
    added = photos[0].copy()
    added.paste((255, 255, 255), (40, 40, 120, 120))
    assert found([photos[0], added]) == set()


def test_other_photos_are_not_alike() -> None:
    from zoo_plugins.shapes import draw

    pictures = [Image.fromarray(draw(label, index, (96, 72))) for label in range(10) for index in range(50)]
    assert len(found(pictures)) <= 0.005 * len(pictures)


def test_stripes_are_not_alike_unless_they_are_the_same() -> None:
    from zoo.testing.toys import pictures

    stripes = [Image.fromarray(pixels) for pixels in pictures(120)[0]]
    assert all(trace.repeats for trace in traces(stripes))
    assert found(stripes) == set()
    assert found([*stripes, again(stripes[7], 75)]) == {(7, 120, "")}


def test_drawings_that_resemble_each_other_are_not_the_same() -> None:
    from sklearn.datasets import load_digits

    grey = np.rint(load_digits().images[:600] * (255 / 16)).astype(np.uint8)
    enlarged = [Image.fromarray(digit).resize((64, 64), Image.Resampling.BICUBIC) for digit in grey]
    assert len({position for pair in found(enlarged) for position in pair[:2]}) <= 6


def test_mirrored_pictures_are_told_of_one_class_only(photos: list[Image.Image]) -> None:
    pictures = [photos[0], ImageOps.mirror(photos[0])]
    assert found(pictures, [0, 0]) == {(0, 1, "mirrored")}
    assert found(pictures, [0, 1]) == set()


def test_what_carries_too_little_is_not_compared(photos: list[Image.Image]) -> None:
    sky = np.linspace(120, 200, 200)[:, None, None] * np.ones((200, 300, 3))
    sky += np.random.default_rng(0).normal(0, 3, sky.shape)
    assert not comparable(trace_of(sky.astype(np.uint8)), 200, 300)
    assert trace_of(np.full((40, 50, 3), 9, np.uint8)).blank
    assert not trace_of(sky.astype(np.uint8)).blank
    photo = trace_of(np.asarray(photos[0]))
    assert comparable(photo, 512, 512)
    assert not comparable(photo, 31, 512)


def random_hashes(count: int, planted: int, bits: int) -> np.ndarray:
    """uint64 [count] of which the last `planted` differ from the first ones in `bits` bits."""
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, count, dtype=np.uint64)
    for number in range(planted):
        flips = sum(1 << int(bit) for bit in rng.choice(64, bits, replace=False))
        hashes[count - planted + number] = hashes[number] ^ np.uint64(flips)
    return hashes


def close(hashes: np.ndarray) -> list[tuple[int, int]]:
    return sorted((int(a), int(b)) for pairs in close_hashes(hashes, hashes) for a, b in pairs)


def test_bands_find_what_a_full_comparison_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = random_hashes(3000, 50, bits=7)
    full = close(hashes)
    assert {(number, 2950 + number) for number in range(50)} <= set(full)
    monkeypatch.setattr(alike, "MOST_COMPARED_WITH_ALL", 10)
    banded = close(hashes)
    assert len(set(banded)) == len(banded)
    assert set(banded) <= set(full)
    near = {(a, b) for a, b in full if int(hashes[a] ^ hashes[b]).bit_count() <= 7}
    assert near <= set(banded)


def test_pairs_are_compared_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = random_hashes(200, 20, bits=5)
    whole = close(hashes)
    monkeypatch.setattr(alike, "BLOCK", 300)
    assert close(hashes) == whole


def test_a_thousand_frames_are_told_in_999_pairs(photos: list[Image.Image]) -> None:
    base = trace_of(np.asarray(photos[0]))
    rng = np.random.default_rng(0)
    shaken = [(base.pattern + rng.integers(-2, 3, base.pattern.shape)).astype(np.int8) for _ in range(1000)]
    frames = [replace(base, pattern=pattern) for pattern in shaken]
    pairs = nearly_equal(frames, [0] * 1000).pairs
    assert len(pairs) == 999
    assert connected(1000, pairs) == [list(range(1000))]


def test_a_search_says_what_it_leaves_out(photos: list[Image.Image], monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = traces([*photos, *(copy(image, "cut") for image in photos)])
    whole = nearly_equal(pictures, [0] * len(pictures))
    assert (whole.untried, whole.banded) == (0, False)
    monkeypatch.setattr(alike, "MOST_ALIGNED", 3)
    monkeypatch.setattr(alike, "MOST_COMPARED_WITH_ALL", 3)
    part = nearly_equal(pictures, [0] * len(pictures))
    assert part.banded
    assert part.untried > 0
    assert len(part.pairs) < len(whole.pairs)


def test_groups() -> None:
    assert equal(["a", "b", "a", "c", "b", "a"]) == [[0, 2, 5], [1, 4]]
    chain = [alike.Pair(a, b, 1.0) for a, b in pairwise((7, 3, 5))]
    assert connected(9, [*chain, alike.Pair(8, 0, 1.0)]) == [[0, 8], [3, 5, 7]]
    assert connected(4, []) == []
