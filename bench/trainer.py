"""How fast is a training step? zoo's beside a bare PyTorch loop, beside timm's, and fed by files instead of by memory.

`vs_bare`: the same settings on both sides (AdamW, label smoothing, fp32, NCHW, and the moving average of the weights
or none): what the trainer costs. `vs_timm`: zoo with the precision and layout that it chooses by itself, against the
loop of timm's train.py with its defaults (github.com/huggingface/pytorch-image-models, train.py, `train_one_epoch`:
SGD, fp32, NCHW, label smoothing 0.1, no moving average, meters and `.item()` in each step). One step each in turn, CPU
time of one thread. `real_vs_synthetic`: images a second of whole epochs, JPEG files through zoo's loader and cache
against one batch from memory, wall-clock time: on a busy machine it says little.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import timm
import torch
from timm.utils import AverageMeter, ModelEmaV3

from zoo.contracts.preprocess import Preprocess
from zoo.records.config import TrainConfig
from zoo.training.learn.loaders import Loaders
from zoo.training.learn.loop import train_epoch, train_step
from zoo.training.learn.optimizer import make_optimizer
from zoo.training.learn.plan import Plan, make_plan
from zoo.training.learn.state import TrainState, make_average, make_state
from zoo.training.learn.task import make_task
from zoo.training.machine.choose import Chosen
from zoo.training.machine.replica import Replica
from zoo.training.machine.timing import ROUNDS as TIMING_ROUNDS
from zoo.training.machine.timing import fastest_mode, possible_modes
from zoo.training.machine.trial import Mode, Trial

if TYPE_CHECKING:
    from zoo.data.loader import Batch

MODELS = {"resnet18": 64, "mobilenetv3_small_050": 96}
CLASSES, BATCH, STEPS = 10, 64, 10**6
ROUNDS = 9
REAL_IMAGES, REAL_ROUNDS = 1600, 5
PLAIN = Mode(precision="fp32", layout="nchw")
EMA = 0.998
Step = Callable[[np.ndarray, np.ndarray], object]
"""Takes uint8 [N, H, W, 3] and int64 [N]."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["ZOO_HOME"] = scratch
        for model, size in MODELS.items():
            ratios |= compare_steps(model, size, arguments.rounds)
        ratios["real_vs_synthetic"] = real_vs_synthetic(Case("resnet18", 64), Path(scratch))
        if torch.cuda.is_available():
            ratios["real_vs_synthetic_cuda"] = on_gpu(Path(scratch))
    if arguments.json:
        print(json.dumps({name: round(ratio, 3) for name, ratio in ratios.items()}))


@dataclass(frozen=True)
class Case:
    """A model, and where it is trained."""

    name: str
    size: int
    device: str = "cpu"
    batch_size: int = BATCH

    @property
    def preprocess(self) -> Preprocess:
        return Preprocess(size=(self.size, self.size))

    def model(self) -> torch.nn.Module:
        torch.manual_seed(0)
        model: torch.nn.Module = timm.create_model(self.name, num_classes=CLASSES).to(self.device).train()
        return model

    def batch(self) -> Batch:
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 256, (self.batch_size, self.size, self.size, 3), dtype=np.uint8)
        return pixels, rng.integers(0, CLASSES, self.batch_size)

    def fastest(self) -> Mode:
        """Return what zoo chooses by itself."""
        trial = Trial(model=self.model(), preprocess=self.preprocess, device=self.device)
        modes = possible_modes(TrainConfig(model=self.name, dataset="-"), self.device)
        found = fastest_mode(trial, modes, self.batch_size, TIMING_ROUNDS)
        assert found is not None
        return found.mode

    def zoo(self, mode: Mode, *, ema: float, steps: int = STEPS) -> tuple[TrainState, Plan]:
        """Return what a run of zoo would train with."""
        config = TrainConfig(model=self.name, dataset="-", ema_decay=ema)
        layout = torch.channels_last if mode.layout == "nhwc" else torch.contiguous_format
        model = self.model().to(memory_format=layout)
        optimizer = make_optimizer(model, config)
        state = make_state(Replica(model), optimizer, make_average(model, ema), fp16=mode.precision == "fp16")
        chosen = Chosen(
            device=self.device, precision=mode.precision, layout=mode.layout, threads=1, batch_size=self.batch_size
        )
        task = make_task(CLASSES, multi_label=False, smoothing=config.label_smoothing)
        return state, make_plan(config, chosen, self.preprocess, optimizer, steps, task)


def compare_steps(model: str, size: int, rounds: int) -> dict[str, float]:
    """Measure everyone's step, turn by turn, and print a table."""
    case = Case(model, size)
    mode = case.fastest()
    sides = {
        "bare": bare(case, EMA),
        "zoo": ours(case, PLAIN, EMA),
        "bare, no average": bare(case, 0),
        "zoo, no average": ours(case, PLAIN, 0),
        "timm": timm_loop(case),
        "zoo, auto": ours(case, mode, EMA),
    }
    images, labels = case.batch()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(-2, rounds):
        # Whoever comes after a large step finds other memory in the caches: everyone comes after everyone.
        for name in random.Random(turn).sample(list(sides), len(sides)):
            before = time.process_time()
            sides[name](images, labels)
            if turn >= 0:
                seconds[name].append(time.process_time() - before)
    print(f"{model} at {size} px, {BATCH} images a step; auto is {mode}: milliseconds of a step (median), times timm")
    for name, times in seconds.items():
        print(f"  {name:20} {1000 * statistics.median(times):8.1f}  {ratio(seconds, 'timm', name):6.2f}x")
    found = {
        f"vs_bare_{model}": ratio(seconds, "bare", "zoo"),
        f"vs_bare_no_average_{model}": ratio(seconds, "bare, no average", "zoo, no average"),
        f"vs_timm_{model}": ratio(seconds, "timm", "zoo, auto"),
    }
    for name, value in found.items():
        print(f"  {name:44} {value:.3f}")
    return found


def ratio(seconds: dict[str, list[float]], slow: str, fast: str) -> float:
    """Return how many times `fast` is as fast as `slow`: the median over paired rounds."""
    return statistics.median(a / b for a, b in zip(seconds[slow], seconds[fast], strict=True))


def ours(case: Case, mode: Mode, ema: float) -> Step:
    state, plan = case.zoo(mode, ema=ema)

    def step(images: np.ndarray, labels: np.ndarray) -> None:
        state.count(train_step(state, images, labels, plan))

    return step


def bare(case: Case, ema: float) -> Step:
    """The loop that one writes by hand for the same settings, with nothing around it."""
    config = TrainConfig(model=case.name, dataset="-")
    model = case.model()
    plain, decayed = [p for p in model.parameters() if p.ndim < 2], [p for p in model.parameters() if p.ndim > 1]
    groups = [{"params": plain, "weight_decay": 0.0}, {"params": decayed, "weight_decay": config.weight_decay}]
    optimizer = torch.optim.AdamW(groups, lr=config.lr / 100, fused=True)
    average = ModelEmaV3(model, decay=ema, use_warmup=True) if ema else None
    mean = torch.tensor(case.preprocess.mean).mul(255).view(3, 1, 1)
    std = torch.tensor(case.preprocess.std).mul(255).view(3, 1, 1)
    steps = iter(range(STEPS))

    def step(images: np.ndarray, labels: np.ndarray) -> None:
        pixels = ((torch.from_numpy(images).permute(0, 3, 1, 2).float() - mean) / std).contiguous()
        loss = torch.nn.functional.cross_entropy(
            model(pixels), torch.from_numpy(labels), label_smoothing=config.label_smoothing
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if average is not None:
            average.update(model, step=next(steps))

    return step


def timm_loop(case: Case) -> Step:
    """The body of timm's `train_one_epoch` with its defaults, and of its loader what works in this process."""
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.optim import create_optimizer_v2
    from timm.scheduler import CosineLRScheduler

    model = case.model()
    optimizer = create_optimizer_v2(model, opt="sgd", lr=0.1 * BATCH / 256, weight_decay=2e-5, momentum=0.9)
    schedule = CosineLRScheduler(optimizer, t_initial=300, lr_min=0, warmup_t=5, warmup_lr_init=1e-5)
    loss_fn = LabelSmoothingCrossEntropy(smoothing=0.1)  # type: ignore[no-untyped-call]
    losses, batch_time, data_time = AverageMeter(), AverageMeter(), AverageMeter()  # type: ignore[no-untyped-call]
    mean = torch.tensor(case.preprocess.mean).mul(255).view(1, 3, 1, 1)
    std = torch.tensor(case.preprocess.std).mul(255).view(1, 3, 1, 1)
    updates = iter(range(STEPS))

    def step(images: np.ndarray, labels: np.ndarray) -> None:
        end = time.time()
        # Its collate hands over uint8 [N, 3, H, W], its prefetcher normalises that.
        pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
        pixels, target = pixels.to(torch.float32).sub_(mean).div_(std), torch.from_numpy(labels)
        data_time.update(time.time() - end)  # type: ignore[no-untyped-call]
        output = model(pixels)
        loss = loss_fn(output, target)
        losses.update(loss.item(), len(labels))  # type: ignore[no-untyped-call]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        batch_time.update(time.time() - end)  # type: ignore[no-untyped-call]
        schedule.step_update(num_updates=next(updates), metric=losses.avg)

    return step


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


def real_vs_synthetic(case: Case, scratch: Path, rounds: int = REAL_ROUNDS) -> float:
    """Train epochs on files and from memory, in turn; the first on files fills the cache."""
    loaders = file_loaders(case, scratch)
    mode = case.fastest()
    steps = len(loaders.train)
    memory: Any = FromMemory(case.batch(), steps, case.batch_size)
    feeds = {
        "synthetic": Loaders(train=memory, val=loaders.val, preprocess=case.preprocess, workers=0),
        "real": loaders,
    }
    state, plan = case.zoo(mode, ema=EMA, steps=steps)
    rates: dict[str, list[float]] = {name: [] for name in feeds}
    for turn in range(-1, rounds):
        for name, feed in feeds.items():
            state.epoch, state.step = turn + 1, 0
            begin = time.perf_counter()
            train_epoch(state, feed, plan, lambda state: None)
            if case.device != "cpu":
                torch.cuda.synchronize()
            if turn >= 0:
                rates[name].append(steps * case.batch_size / (time.perf_counter() - begin))
    found = statistics.median(b / a for a, b in zip(rates["synthetic"], rates["real"], strict=True))
    told = ", ".join(f"{name} {statistics.median(values):.0f}" for name, values in rates.items())
    print(f"{case.name} at {case.size} px, {mode}, on {case.device}: images/s {told}; real_vs_synthetic {found:.3f}")
    return found


def file_loaders(case: Case, scratch: Path) -> Loaders:
    """Return what reads drawn JPEG files as a run does: default augmentation, cache on disk, a thread."""
    from zoo.data.cache import Cache
    from zoo.data.loader import TrainLoader, worker_count
    from zoo.data.prepared import prepare
    from zoo.training.machine.transfer import allocator
    from zoo_plugins.augmentations import standard
    from zoo_plugins.shapes import shapes

    dataset = shapes(scratch / "shapes", count=REAL_IMAGES // CLASSES, width=500, height=375)
    data = prepare(dataset, "shapes", seed=0)
    cache = Cache("disk", 20e9, data, case.preprocess)
    train = TrainLoader(
        split=cache.train(),
        augmentation=lambda: standard(case.size, case.size),
        size=case.preprocess.size,
        batch_size=case.batch_size,
        seed=0,
        workers=worker_count(-1),
        allocate=allocator(torch.device(case.device)),
    )
    return Loaders(train=train, val=cache.val(), preprocess=case.preprocess, workers=0)


def on_gpu(scratch: Path) -> float:
    """The same on the card, with what is usual there."""
    case = Case("resnet50", 224, "cuda", 128)
    torch.cuda.reset_peak_memory_stats()
    found = real_vs_synthetic(case, scratch)
    print(f"  {torch.cuda.get_device_name()}: {torch.cuda.max_memory_allocated() / 1e9:.1f} GB at most")
    return found


if __name__ == "__main__":
    main()
