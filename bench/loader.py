"""How fast do images become batches? CPU time of zoo's loader beside what people use, on JPEG files of two sizes.

Everyone crops at random (8 to 100 % of the area) to 224 x 224 and mirrors half of the images. Everyone gets ready what
a training step takes: zoo uint8 pixels, which are normalised on the device; the others float32, normalised. Each works
as people run it, with one worker: a thread for zoo, a process for a DataLoader, whose time counts too. `--workers 0`
lets everyone work in the training process itself.

The files are drawn (dataset `shapes`), with libjpeg's own default quality of 75. At a higher `--quality` a file
has more bytes, and undoing their Huffman code, which nobody can skip, takes a larger share of everyone's time.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import cv2
import numpy as np
import simplejpeg
import torch
from torch.utils.data import DataLoader

SIZES = ((500, 375), (1920, 1080))
CROP, BATCH = 224, 32
IMAGES = 39
"""Of each of ten classes: what an epoch costs once should not count for more than in real ones."""
AREA = (0.08, 1.0)
ROUNDS = 7
QUALITY = 75
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Pass = Callable[[int], int]
"""Goes once over all images, as epoch N; returns how many there were."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--quality", type=int, default=QUALITY, help="of the JPEG files")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    pin_to_one_core()
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["ZOO_HOME"] = scratch
        for size in SIZES:
            ratios |= compare(draw(Path(scratch), size, arguments.quality), size, arguments.workers, arguments.rounds)
    if arguments.json:
        print(json.dumps({name: round(ratio, 3) for name, ratio in ratios.items()}))


def pin_to_one_core() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def compare(folder: Path, size: tuple[int, int], workers: int, rounds: int) -> dict[str, float]:
    """Measure everyone on images of one size, turn by turn, and print a table."""

    files = sorted(folder.rglob("*.jpg"))
    passes = {
        "ImageFolder, torchvision v1": imagefolder(folder, workers),
        "timm create_loader": timm_loader(folder, workers),
        "albumentations and cv2": albumentations_loader(files, workers),
        "zoo": zoo_loader(files, workers, cached=False),
        "zoo, while the cache is built": zoo_loader(files, workers, cached=True, fresh=True),
        "zoo, from the cache": zoo_loader(files, workers, cached=True),
        "decoding alone (libjpeg-turbo)": decoding(files),
    }
    seconds: dict[str, list[float]] = {name: [] for name in passes}
    for turn in range(-1, rounds):
        for name, run in passes.items():
            before = cpu_seconds()
            count = run(turn + 1)
            if turn >= 0:
                seconds[name].append((cpu_seconds() - before) / count)
    return report(size, seconds)


def draw(scratch: Path, size: tuple[int, int], quality: int) -> Path:
    from zoo_plugins.shapes import shapes

    width, height = size
    train = shapes(scratch / "shapes", count=IMAGES, width=width, height=height, quality=quality).splits["train"]
    first = train.images[0]
    assert isinstance(first, Path)
    return first.parent.parent


def imagefolder(folder: Path, workers: int) -> Pass:
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    steps = [transforms.RandomResizedCrop(CROP, scale=AREA), transforms.RandomHorizontalFlip()]
    whole = transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    return over(ImageFolder(folder, whole), workers)


def timm_loader(folder: Path, workers: int) -> Pass:
    from timm.data import create_dataset, create_loader

    loader = create_loader(
        create_dataset("", str(folder)),
        (3, CROP, CROP),
        BATCH,
        is_training=True,
        color_jitter=0,
        scale=AREA,
        mean=MEAN,
        std=STD,
        use_prefetcher=False,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    return lambda epoch: sum(len(images) for images, _ in loader)


class WithAlbumentations(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """The recipe of countless notebooks."""

    def __init__(self, files: list[Path]) -> None:
        import albumentations as A
        from albumentations.pytorch import ToTensorV2

        self.files = [str(file) for file in files]
        crop = A.RandomResizedCrop((CROP, CROP), scale=AREA)
        self.transform = A.Compose([crop, A.HorizontalFlip(), A.Normalize(MEAN, STD), ToTensorV2()])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image: Any = cv2.imread(self.files[index])
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        return self.transform(image=image)["image"], 0


def albumentations_loader(files: list[Path], workers: int) -> Pass:
    return over(WithAlbumentations(files), workers)


def over(dataset: Any, workers: int) -> Pass:
    loader = DataLoader(
        dataset, BATCH, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
    )
    return lambda epoch: sum(len(images) for images, _ in loader)


def zoo_loader(files: list[Path], workers: int, *, cached: bool, fresh: bool = False) -> Pass:
    from zoo.contracts.preprocess import Preprocess
    from zoo.data.loader import TrainLoader
    from zoo.data.prepared import prepare
    from zoo.plugin import Dataset, Split
    from zoo_plugins.augmentations import standard

    labels = np.arange(len(files)) % 2
    train = Split(images=files, labels=labels)
    dataset = Dataset(classes=("a", "b"), splits={"train": train, "val": choose(train, 2), "test": choose(train, 2)})
    data, preprocess = prepare(dataset, "bench", seed=0), Preprocess(size=(CROP, CROP))

    def loader() -> TrainLoader:
        from zoo.data.cache import Cache

        split = Cache("ram", 1e10, data, preprocess).train() if cached else data.splits["train"]
        return TrainLoader(
            split=split,
            augmentation=lambda: standard(CROP, CROP, smallest=AREA[0], jitter=0),
            size=(CROP, CROP),
            batch_size=BATCH,
            seed=0,
            workers=workers,
        )

    kept = loader()
    return lambda epoch: sum(len(images) for images, _ in (loader() if fresh else kept).epoch(epoch))


def choose(split: Any, count: int) -> Any:
    from zoo.plugin import Split

    return Split(images=split.images[:count], labels=split.labels[:count])


def decoding(files: list[Path]) -> Pass:
    def decode(epoch: int) -> int:
        for file in files:
            simplejpeg.decode_jpeg(file.read_bytes(), "RGB")
        return len(files)

    return decode


def cpu_seconds() -> float:
    """Return what this process and its living children have used."""
    return time.process_time() + sum(child_seconds(child.pid) for child in multiprocessing.active_children())


def child_seconds(process: int | None) -> float:
    # The name, in parentheses, may hold blanks; user and system time are the 12th and 13th number behind it.
    numbers = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")


def report(size: tuple[int, int], seconds: dict[str, list[float]]) -> dict[str, float]:
    label = f"{size[0]}x{size[1]}"
    print(f"{label}: images per CPU second, and times ImageFolder (median of paired rounds)")
    for name in seconds:
        print(f"  {name:32} {1 / statistics.median(seconds[name]):7.0f}  {ratio(seconds, 'ImageFolder', name):6.2f}x")
    ratios = {
        "vs_imagefolder": ratio(seconds, "ImageFolder", "zoo"),
        "vs_timm": ratio(seconds, "timm", "zoo"),
        "vs_albumentations": ratio(seconds, "albumentations", "zoo"),
        "cached_vs_imagefolder": ratio(seconds, "ImageFolder", "zoo, from the cache"),
        "building_vs_imagefolder": ratio(seconds, "ImageFolder", "zoo, while the cache is built"),
        "of_decode_limit": ratio(seconds, "decoding", "zoo"),
    }
    for name, value in ratios.items():
        print(f"  {name + '_' + label:32} {value:.2f}")
    return {f"{name}_{label}": value for name, value in ratios.items()}


def ratio(seconds: dict[str, list[float]], slow: str, fast: str) -> float:
    """Return how many times `fast` is as fast as `slow`, of which the beginning is enough."""
    name = next(name for name in seconds if name.startswith(slow))
    return statistics.median(a / b for a, b in zip(seconds[name], seconds[fast], strict=True))


if __name__ == "__main__":
    main()
