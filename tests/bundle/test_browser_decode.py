"""Chromium's decoders behind `decode.mjs`, beside the device's: the same pixels of the same file."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from zoo.runtime.pixels import decode

from ..pages import opened
from .test_browser import unpack

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.catalogue import Catalogue
    from zoo.records.artifact import Artifact

pytestmark = pytest.mark.slow
LOOK = """async ([address, text]) => {
  const { decode } = await import(address + "decode.mjs");
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const { data, width, height } = await decode(new Blob([bytes]));
  let letters = "";
  for (let place = 0; place < data.length; place += 9999) {
    letters += String.fromCharCode(...data.subarray(place, place + 9999));
  }
  return [height, width, btoa(letters)];
}"""


def drawn(height: int, width: int) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 7 + y / 11), np.cos(x / 5), np.sin(y / 9)], -1)
    noise = np.random.default_rng(0).normal(0, 10, waves.shape)
    return Image.fromarray((128 + 90 * waves + noise).clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def files() -> dict[str, bytes]:
    image, rng = drawn(123, 171), np.random.default_rng(1)
    holes = image.copy()
    holes.putalpha(Image.fromarray(rng.integers(0, 256, (123, 171), np.uint8)))
    found = {f"jpeg {n}": encoded(image, "JPEG", quality=85, subsampling=n) for n in range(3)}
    found |= {"odd jpeg": encoded(drawn(77, 91), "JPEG"), "progressive": encoded(image, "JPEG", progressive=True)}
    found |= {mode: encoded(image.convert(mode), "JPEG") for mode in ("L", "CMYK")}
    for orientation in range(2, 9):
        exif = Image.Exif()
        exif[0x112] = orientation
        found |= {f"turned {kind} {orientation}": encoded(image, kind, exif=exif) for kind in ("JPEG", "PNG")}
    found |= {
        f"{kind} {mode}": encoded(image.convert(mode), kind) for kind in ("PNG", "BMP") for mode in ("RGB", "P", "1")
    }
    found |= {"holes": encoded(holes, "PNG"), "grey holes": encoded(holes.convert("LA"), "PNG")}
    found |= {"a colour is a hole": encoded(image, "PNG", transparency=image.getpixel((5, 5)))}
    few = image.quantize(64)
    found |= {"gif": encoded(few, "GIF"), "gif with a hole": encoded(few, "GIF", transparency=2)}
    found |= {"film": encoded(few, "GIF", save_all=True, append_images=[drawn(123, 171).rotate(180).quantize(64)])}
    found |= {"webp": encoded(image, "WEBP"), "webp, holes": encoded(holes, "WEBP", lossless=True, exact=True)}
    found |= {"16 bits": encoded(Image.fromarray(rng.integers(0, 65536, (50, 60)).astype(np.uint16)), "PNG")}
    return found


def test_it_decodes_as_pillow_does(catalogue: Catalogue, onnx_artifact: Artifact, tmp_path: Path) -> None:
    with opened(unpack(catalogue, onnx_artifact, tmp_path)) as page:
        for name, content in files().items():
            height, width, text = page.evaluate(LOOK, [page.url, base64.b64encode(content).decode()])
            got = np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 3)
            wanted = decode(content)
            assert got.shape == wanted.shape, name
            # Pillow's runtime divides 16 bits by 257, browsers by 256.
            assert np.abs(got.astype(int) - wanted).max() <= (name == "16 bits"), name
