"""Rows about image files: epochs from JPEG files beside arrays from memory, and JPEG decoding on the GPU."""

from __future__ import annotations

import importlib.util
import random
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bench.gpu_rows.case import Case, usual, wait
from bench.gpu_rows.pictures import PlainCrops, drawn
from bench.gpu_rows.report import NotRun
from zoo.contracts.plugins import Dataset, Split
from zoo.data.cache import Cache
from zoo.data.decode import to_rgb
from zoo.data.loader import TrainLoader, worker_count
from zoo.data.prepared import prepare
from zoo.training.learn.loaders import Loaders
from zoo.training.learn.loop import train_epoch
from zoo.training.machine.transfer import allocator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.gpu_rows.report import Report
    from zoo.data.loader import Batch
    from zoo.training.learn.plan import Plan
    from zoo.training.learn.state import TrainState

DRAWN, EPOCH = 1600, 6400
"""Files, and images of an epoch: with fewer, a fast card would be done before the loader is in its stride."""
ROUNDS = 5


@dataclass(frozen=True)
class FromMemory:
    """One batch, as often as a loader has batches."""

    batch: Batch
    steps: int
    batch_size: int

    def __len__(self) -> int:
        return self.steps

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        for _ in range(start, self.steps):
            yield self.batch


def real(report: Report) -> None:
    """Train epochs from memory, from the cache on the disk, and from the files themselves, in turn."""
    # As many classes as in the row `compile`, so that PyTorch finds what it compiled there.
    case = usual(rehearsal=report.rehearsal, compile=True)
    files = _loaders(case, report, cached=False)
    steps = len(files.train)
    memory: Any = FromMemory(case.batch(), steps, case.batch_size)
    feeds = {
        "memory": Loaders(train=memory, val=files.val, preprocess=case.preprocess, workers=0),
        "files": files,
    }
    report.figure("augmentation", "standard" if _whole() else "crop and mirror by Pillow; no cache: no OpenCV here")
    if _whole():
        feeds["cache"] = _loaders(case, report, cached=True)
    state, plan = case.zoo(steps=steps)
    rates: dict[str, list[float]] = {name: [] for name in feeds}
    for turn in range(-1, 2 if report.rehearsal else ROUNDS):
        for name in random.Random(turn).sample(list(feeds), len(feeds)):
            # The first one fills the cache, and compiles.
            rate = _rate(state, feeds[name], plan, max(0, turn))
            if turn >= 0:
                rates[name].append(rate)
    for name in sorted(set(feeds) - {"memory"}):
        ratio = statistics.median(b / a for a, b in zip(rates["memory"], rates[name], strict=True))
        report.figure(f"{name} over memory", ratio)
    report.figure("threads", worker_count(-1))
    if case.device.startswith("cuda"):
        for name, found in rates.items():
            report.figure(f"images/s from {name}", statistics.median(found))


def _rate(state: TrainState, feed: Loaders, plan: Plan, epoch: int) -> float:
    """Return the images a second of an epoch, from its second step on: a long one would not show how it begins."""
    state.epoch, state.step = epoch, 0
    begin = 0.0

    def after_step(state: TrainState) -> None:
        nonlocal begin
        if state.step == 1:
            wait(plan.device.type)
            begin = time.perf_counter()

    train_epoch(state, feed, plan, after_step)
    wait(plan.device.type)
    return (plan.steps_per_epoch - 1) * feed.train.batch_size / (time.perf_counter() - begin)


def _whole() -> bool:
    """Tell whether what zoo's own augmentation and cache are made of is there."""
    return all(importlib.util.find_spec(name) for name in ("cv2", "albumentations", "scipy"))


def _augmentation(side: int) -> Callable[[], Any]:
    if not _whole():
        return lambda: PlainCrops(side)
    from zoo_plugins.augmentations import standard

    return lambda: standard(side, side)


def _loaders(case: Case, report: Report, *, cached: bool) -> Loaders:
    """Return what reads drawn JPEG files as a run does; with its default augmentation, where that is there."""
    count, wanted = (40, 80) if report.rehearsal else (DRAWN, EPOCH)
    files, labels = drawn(report.folder / "pictures", count)
    train = Split(images=files * (wanted // count), labels=np.tile(labels, wanted // count))
    few = Split(images=files[::4], labels=labels[::4])
    classes = tuple("abcdefghij")
    data = prepare(Dataset(classes=classes, splits={"train": train, "val": few, "test": few}), "shapes", seed=0)
    cache = Cache("disk", 20e9, data, case.preprocess) if cached else None
    loader = TrainLoader(
        split=cache.train() if cache else data.splits["train"],
        augmentation=_augmentation(case.size),
        size=case.preprocess.size,
        batch_size=case.batch_size,
        seed=0,
        workers=worker_count(-1),
        allocate=allocator(torch.device(case.device)),
    )
    return Loaders(train=loader, val=data.splits["val"], preprocess=case.preprocess, workers=0)


def jpeg_on_gpu(report: Report) -> None:
    """Decode whole JPEG files by nvJPEG, through TorchCodec, and by zoo's decoder on its threads."""
    from torchcodec import decoders

    decode_jpeg: Any = decoders.decode_jpeg  # type: ignore[attr-defined]  # its package names no __all__

    files = [file.read_bytes() for file in drawn(report.folder / "pictures", 40 if report.rehearsal else DRAWN)[0]]
    report.figure("torchcodec", _version("torchcodec"))
    batch = 64
    tensors = [torch.from_numpy(np.frombuffer(data, np.uint8).copy()) for data in files]

    def on_device(some: list[torch.Tensor]) -> list[torch.Tensor]:
        found: list[torch.Tensor] = decode_jpeg(some, device=report.device)
        return found

    try:
        first = on_device(tensors[:1])[0]
    except (RuntimeError, NotImplementedError, TypeError) as exc:
        raise NotRun(f"TorchCodec decodes no JPEG on a GPU here: {str(exc).splitlines()[0]}") from exc
    ours = to_rgb(files[0]).astype(int)
    gap = np.abs(first.permute(1, 2, 0).cpu().numpy().astype(int) - ours)
    report.figure("largest difference of a pixel", f"{gap.max()} of 255")
    with ThreadPoolExecutor(worker_count(-1)) as pool:
        sides: dict[str, Callable[[], object]] = {
            "threads": lambda: list(pool.map(to_rgb, files)),
            "gpu": lambda: [on_device(tensors[at : at + batch]) for at in range(0, len(tensors), batch)],
        }
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for turn in range(-1, 2 if report.rehearsal else 7):
            for name, decode in sides.items():
                begin = time.perf_counter()
                decode()
                wait(report.device)
                if turn >= 0:
                    seconds[name].append(time.perf_counter() - begin)
    found = statistics.median(a / b for a, b in zip(seconds["threads"], seconds["gpu"], strict=True))
    report.figure("GPU over threads", found)
    report.figure("threads", worker_count(-1))
    if not report.rehearsal:
        report.figure("images/s on the GPU", len(files) / statistics.median(seconds["gpu"]))


def _version(package: str) -> str:
    import importlib.metadata

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
