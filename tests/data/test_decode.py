"""Odd images, each beside Pillow's careful path; and the faster decoder of training beside the careful one."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageOps
from skimage import data as photos

from zoo.data.decode import to_part, to_rgb
from zoo.errors import ImageUnreadable
from zoo.runtime import pixels as runtime_pixels

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CHELSEA = Image.fromarray(np.asarray(photos.chelsea()))  # type: ignore[no-untyped-call]
ORIENTATION = 0x0112


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return encoded(CHELSEA, "JPEG", quality=90, exif=exif)


def over_white(image: Image.Image) -> np.ndarray:
    """Blend as the definition of alpha says, in floating point."""
    rgba = np.asarray(image.convert("RGBA"), np.float64)
    alpha = rgba[..., 3:] / 255
    return rgba[..., :3] * alpha + 255 * (1 - alpha)


def with_alpha(mode: str) -> Image.Image:
    ramp = np.linspace(0, 255, CHELSEA.width * CHELSEA.height).reshape(CHELSEA.height, CHELSEA.width)
    image = CHELSEA.convert("RGBA" if mode == "RGBA" else "LA")
    image.putalpha(Image.fromarray(ramp.astype(np.uint8)))
    return image


def deep() -> np.ndarray:
    grey = np.asarray(CHELSEA.convert("L"), np.uint16)
    return grey * 257


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def animation(kind: str) -> bytes:
    others = [Image.new("RGB", CHELSEA.size, colour) for colour in ("red", "blue")]
    return encoded(CHELSEA, kind, save_all=True, append_images=others, **({"lossless": True} if kind == "WEBP" else {}))


ODDITIES: dict[str, tuple[Callable[[], bytes], Callable[[bytes], np.ndarray]]] = {
    "grey": (lambda: encoded(CHELSEA.convert("L"), "JPEG"), lambda data: np.stack([np.asarray(opened(data))] * 3, -1)),
    "palette": (
        lambda: encoded(CHELSEA.quantize(64), "PNG"),
        lambda data: np.asarray(CHELSEA.quantize(64).convert("RGB")),
    ),
    "palette with a transparent colour": (
        lambda: encoded(CHELSEA.quantize(8), "PNG", transparency=3),
        lambda data: np.where(
            (np.asarray(opened(data)) == 3)[..., None], 255, np.asarray(CHELSEA.quantize(8).convert("RGB"))
        ),
    ),
    "alpha": (lambda: encoded(with_alpha("RGBA"), "PNG"), lambda data: over_white(with_alpha("RGBA"))),
    "grey with alpha": (lambda: encoded(with_alpha("LA"), "PNG"), lambda data: over_white(with_alpha("LA"))),
    "CMYK": (
        lambda: encoded(CHELSEA.convert("CMYK"), "JPEG", quality=95),
        lambda data: np.asarray(opened(data).convert("RGB")),
    ),
    "16 bits": (
        lambda: encoded(Image.fromarray(deep()), "PNG"),
        lambda data: np.stack([np.asarray(CHELSEA.convert("L"))] * 3, -1),
    ),
    "16 bits in TIFF": (
        lambda: encoded(Image.fromarray(deep()), "TIFF"),
        lambda data: np.stack([np.asarray(CHELSEA.convert("L"))] * 3, -1),
    ),
    "animated GIF": (lambda: animation("GIF"), lambda data: np.asarray(opened(data).convert("RGB"))),
    "animated WebP": (lambda: animation("WEBP"), lambda data: np.asarray(CHELSEA)),
    "WebP": (lambda: encoded(CHELSEA, "WEBP", lossless=True), lambda data: np.asarray(CHELSEA)),
    "WebP with alpha": (
        lambda: encoded(with_alpha("RGBA"), "WEBP", lossless=True, exact=True),
        lambda data: over_white(with_alpha("RGBA")),
    ),
    "BMP": (lambda: encoded(CHELSEA, "BMP"), lambda data: np.asarray(CHELSEA)),
    "TIFF": (lambda: encoded(CHELSEA, "TIFF", compression="tiff_lzw"), lambda data: np.asarray(CHELSEA)),
    "one bit": (
        lambda: encoded(CHELSEA.convert("1"), "PNG"),
        lambda data: np.asarray(CHELSEA.convert("1").convert("RGB")),
    ),
    "progressive JPEG": (
        lambda: encoded(CHELSEA, "JPEG", progressive=True),
        lambda data: np.asarray(opened(data).convert("RGB")),
    ),
    **{
        f"EXIF orientation {number}": (
            lambda number=number: turned(number),  # type: ignore[misc]
            lambda data: np.asarray(ImageOps.exif_transpose(opened(data))),
        )
        for number in range(1, 9)
    },
}


@pytest.mark.parametrize("oddity", ODDITIES)
def test_an_odd_image_comes_as_pillow_gives_it_with_care(oddity: str, tmp_path: Path) -> None:
    make, careful = ODDITIES[oddity]
    file = tmp_path / "image"
    file.write_bytes(make())
    pixels = to_rgb(file)
    wanted = careful(make())
    assert pixels.dtype == np.uint8
    assert pixels.shape == wanted.shape
    assert np.abs(pixels.astype(float) - wanted).max() <= 1, oddity


@pytest.mark.parametrize("oddity", ODDITIES)
def test_training_sees_the_same_odd_image(oddity: str) -> None:
    data = ODDITIES[oddity][0]()
    whole = to_rgb(data)
    part = to_part(data, lambda height, width: (10, 20, height - 5, width - 7), whole.shape[:2])
    wanted = whole[10 : whole.shape[0] - 5, 20 : whole.shape[1] - 7]
    assert part.shape == wanted.shape
    # Colours of JPEG files are enlarged without smoothing, which shows at edges.
    assert np.abs(part.astype(float) - wanted).mean() < 2.5


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_a_large_part_comes_coarser_but_from_the_same_place(scale: int, subsampling: int) -> None:
    image = Image.fromarray(photos.astronaut())  # type: ignore[no-untyped-call]
    data = encoded(image, "JPEG", quality=95, subsampling=subsampling)
    box = (64, 96, 480, 440)
    least = ((box[2] - box[0]) // scale, (box[3] - box[1]) // scale)
    part = to_part(data, lambda height, width: box, least)
    assert part.shape[:2] == least
    top, left, bottom, right = box
    wanted = np.asarray(
        image.crop((left, top, right, bottom)).resize((part.shape[1], part.shape[0]), Image.Resampling.BOX)
    )
    assert np.abs(part.astype(float) - wanted).mean() < 5


KINDS: dict[str, dict[str, Any]] = {
    **{f"subsampling {number}": {"subsampling": number} for number in (0, 1, 2)},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 1},
    "low": {"quality": 20},
}


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_below_the_part_change_nothing_in_it(kind: str, grey: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(CHELSEA.convert("L") if grey else CHELSEA, "JPEG", **KINDS[kind])
    heights = []
    decode = simplejpeg.decode_jpeg

    def counted(*args: Any, **options: Any) -> Any:
        heights.append(len(options["buffer"]))
        return decode(*args, **options)

    monkeypatch.setattr(simplejpeg, "decode_jpeg", counted)
    whole = to_part(data, lambda height, width: (0, 0, height, width), (900, 900))
    for box in ((0, 33, 16, 451), (40, 0, 121, 90), (200, 1, 283, 451), (10, 33, 300, 80)):
        part = to_part(data, lambda height, width, box=box: box, (900, 900))  # type: ignore[misc]
        assert np.array_equal(part, whole[box[0] : box[2], box[1] : box[3]])
    half = to_part(data, lambda height, width: (0, 0, height, width), (150, 225))
    part = to_part(data, lambda height, width: (32, 0, 160, width), (64, 225))
    assert np.array_equal(part, half[16:80])
    shortened = {"progressive": False, "restarts": False}.get(kind, True)
    assert (min(heights) < 60) is shortened


def test_damage_above_the_end_of_a_part_goes_the_careful_way() -> None:
    data = bytearray(encoded(CHELSEA, "JPEG"))
    middle = len(data) // 2
    data[middle : middle + 40] = b"\xff\xd9" * 20
    part = to_part(bytes(data), lambda height, width: (0, 0, 280, width), (900, 900))
    assert np.array_equal(part, to_rgb(bytes(data))[:280])


def test_a_part_is_never_smaller_than_asked() -> None:
    data = encoded(CHELSEA, "JPEG")
    for side in (7, 50, 149, 150, 151, 299, 300, 4000):
        part = to_part(data, lambda height, width: (0, 0, height, width), (side, side))
        assert min(part.shape[:2]) >= min(side, 300)


@pytest.mark.parametrize("way", [to_rgb, lambda data: to_part(data, lambda h, w: (0, 0, h, w), (8, 8))])
def test_too_many_pixels_are_refused_before_decoding(way: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = encoded(Image.new("1", (20_000, 20_000)), "PNG")
    assert len(bomb) < 100_000
    with pytest.raises(ImageUnreadable, match="hundreds of megapixels, over the limit of 64"):
        way(bomb)
    monkeypatch.setattr(runtime_pixels, "MAX_PIXELS", 1000)
    monkeypatch.setattr("zoo.data.jpeg.MAX_PIXELS", 1000)
    with pytest.raises(ImageUnreadable, match="over the limit"):
        way(encoded(CHELSEA, "JPEG"))


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
def test_a_cut_jpeg_is_as_unreadable_for_training(share: float) -> None:
    data = encoded(CHELSEA, "JPEG")
    with pytest.raises(ImageUnreadable):
        to_part(data[: int(len(data) * share)], lambda height, width: (0, 0, 8, 8), (8, 8))


def test_a_jpeg_with_garbage_inside_never_crashes() -> None:
    data = bytearray(encoded(CHELSEA, "JPEG"))
    rng = np.random.default_rng(0)
    for _ in range(300):
        broken = data.copy()
        for place in rng.integers(2, len(data), 5):
            broken[place] = rng.integers(256)
        with contextlib.suppress(ImageUnreadable):
            pixels = to_part(bytes(broken), lambda height, width: (0, 0, height, width), (8, 8))
            assert pixels.dtype == np.uint8
