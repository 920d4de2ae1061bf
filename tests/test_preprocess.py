"""One definition of the pixels: it equals timm's own evaluation, and travels without loss."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.contracts.preprocess import Preprocess
from zoo.runtime.pixels import PixelError, decode

SIZES = [(375, 500), (500, 375), (224, 224), (100, 900), (61, 47), (225, 225), (8, 8)]


def picture(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(height * 1000 + width)
    small = Image.fromarray(rng.integers(0, 256, (7, 9, 3), np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("crop_pct", [0.875, 0.95, 1.0])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_it_equals_timms_evaluation_to_the_pixel(size: tuple[int, int], crop_pct: float, interpolation: str) -> None:
    from timm.data import create_transform

    cfg = {"input_size": (3, 224, 224), "crop_pct": crop_pct, "interpolation": interpolation}
    ours = Preprocess.from_pretrained_cfg(cfg).prepare(picture(*size))
    timms = create_transform(
        (3, 224, 224), is_training=False, crop_pct=crop_pct, interpolation=interpolation, normalize=False
    )
    theirs = timms(Image.fromarray(picture(*size))).permute(1, 2, 0).numpy()
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("crop", ["center", "squash", "border"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_crop_gives_the_size_asked_for(crop: str, size: tuple[int, int]) -> None:
    preprocess = Preprocess.from_pretrained_cfg({"input_size": (3, 96, 64), "crop_mode": crop})
    pixels = preprocess.prepare(picture(*size))
    assert pixels.shape == (96, 64, 3)
    assert pixels.dtype == np.uint8


def test_it_survives_json() -> None:
    preprocess = Preprocess(
        size=(32, 48), mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), interpolation="bilinear", crop="squash"
    )
    assert Preprocess.from_json(json.loads(json.dumps(preprocess.to_json()))) == preprocess


def test_the_shipped_model_normalises_like_timm() -> None:
    class Pass(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((2, 3))

    preprocess = Preprocess(size=(8, 8), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    pixels = torch.from_numpy(picture(8, 8).copy())[None]
    wanted = (pixels.permute(0, 3, 1, 2) / 255 - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor(
        [0.2, 0.3, 0.4]
    ).view(3, 1, 1)
    assert torch.allclose(preprocess.wrap(Pass())(pixels), wanted.mean((2, 3)).softmax(-1), atol=1e-6)
    assert torch.allclose(preprocess.wrap(Pass(), multi_label=True)(pixels), wanted.mean((2, 3)).sigmoid(), atol=1e-6)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_odd_modes_become_rgb() -> None:
    assert decode(encoded(Image.new("L", (3, 2), 77))).tolist() == [[[77] * 3] * 3] * 2
    assert decode(encoded(Image.new("RGBA", (1, 1), (0, 0, 0, 0)))).tolist() == [[[255, 255, 255]]]
    assert decode(encoded(Image.new("LA", (1, 1), (0, 128)))).tolist() == [[[127, 127, 127]]]
    deep = Image.fromarray(np.array([[0, 257 * 100, 65535]], np.uint16))
    assert decode(encoded(deep))[0, :, 0].tolist() == [0, 100, 255]
    assert decode(encoded(Image.new("CMYK", (1, 1)), "JPEG")).shape == (1, 1, 3)
    assert decode(encoded(Image.new("1", (1, 1), 1))).tolist() == [[[255, 255, 255]]]


def test_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(encoded(Image.new("RGB", (4, 2)), "JPEG", exif=exif)).shape == (4, 2, 3)


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(data)[0, 0].tolist() == [254, 0, 0] or decode(data)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_a_cut_file_is_never_half_a_picture(kind: str, share: float) -> None:
    data = encoded(Image.fromarray(picture(60, 80)), kind)
    with pytest.raises(PixelError):
        decode(data[: int(len(data) * share)])


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, b"version https://git-lfs.github.com"]
)
def test_what_is_no_image_says_so(data: bytes) -> None:
    with pytest.raises(PixelError):
        decode(data)
