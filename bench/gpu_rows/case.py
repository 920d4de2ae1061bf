"""A network and where it is trained, and what trains it: zoo, a bare loop, timm's loop."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import timm
import torch

from zoo.contracts.preprocess import Preprocess
from zoo.records.config import TrainConfig
from zoo.training.learn.loop import train_step
from zoo.training.learn.optimizer import make_optimizer
from zoo.training.learn.plan import Plan, make_plan
from zoo.training.learn.state import TrainState, make_average, make_state
from zoo.training.learn.task import make_task
from zoo.training.machine.choose import Chosen, autocast
from zoo.training.machine.replica import Replica
from zoo.training.machine.transfer import allocator
from zoo.training.machine.trial import Mode

if TYPE_CHECKING:
    from zoo.data.loader import Batch

Step = Callable[[], object]
STEPS = 10**6
"""Of a schedule that is never run to its end."""
EMA = 0.998
FAST, PLAIN = Mode(precision="bf16", layout="nhwc"), Mode(precision="fp32", layout="nchw")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model, and how it is trained."""

    model: str = "resnet50"
    size: int = 224
    """Pixels of height and width."""
    batch_size: int = 128
    classes: int = 1000
    device: str = "cuda"
    mode: Mode = FAST
    compile: bool = False
    rounds: int = 7
    steps: int = 20
    """In each turn of a side."""

    @property
    def preprocess(self) -> Preprocess:
        """Of the images."""
        return Preprocess(size=(self.size, self.size))

    @property
    def config(self) -> TrainConfig:
        """The options of zoo, whose defaults the bare loop has as well."""
        return TrainConfig(model=self.model, dataset="-", ema_decay=EMA, compile=self.compile)

    def network(self) -> torch.nn.Module:
        """Return the model on the device, its weights always the same."""
        torch.manual_seed(0)
        form = torch.channels_last if self.mode.layout == "nhwc" else torch.contiguous_format
        made: torch.nn.Module = timm.create_model(self.model, num_classes=self.classes)
        return made.to(self.device).to(memory_format=form).train()

    def batch(self, seed: int = 0) -> Batch:
        """Return noise, on a GPU in memory that it can fetch by itself, as zoo's loader has it."""
        rng = np.random.default_rng(seed)
        shape = (self.batch_size, self.size, self.size, 3)
        make = allocator(torch.device(self.device))
        pixels = make(shape) if make else np.empty(shape, np.uint8)
        pixels[:] = rng.integers(0, 256, shape, dtype=np.uint8)
        return pixels, rng.integers(0, self.classes, self.batch_size)

    def zoo(self, replica: Replica | None = None, steps: int = STEPS, **options: Any) -> tuple[TrainState, Plan]:
        """Return what a run of zoo trains with."""
        config = self.config.model_copy(update=options)
        if replica is None:
            replica = Replica(self.network(), compile_for=self.device if self.compile else "")
        model = replica.model
        optimizer = make_optimizer(model, config)
        average = make_average(model, config.ema_decay)
        state = make_state(replica, optimizer, average, fp16=self.mode.precision == "fp16")
        chosen = Chosen(
            device=self.device,
            precision=self.mode.precision,
            layout=self.mode.layout,
            threads=torch.get_num_threads(),
            batch_size=self.batch_size,
        )
        task = make_task(self.classes, multi_label=False, smoothing=config.label_smoothing)
        return state, make_plan(config, chosen, self.preprocess, optimizer, steps, task)

    def with_(self, **changes: Any) -> Case:
        """Return the same otherwise."""
        return replace(self, **changes)


def usual(*, rehearsal: bool, **changes: Any) -> Case:
    """Return the case that the issue names, with a batch that the card takes; for a rehearsal a tiny one."""
    if rehearsal:
        torch.set_num_threads(1)
        tiny = Case(model="test_resnet", size=32, batch_size=8, classes=10, device="cpu", mode=PLAIN, rounds=2, steps=2)
        return tiny.with_(**{name: value for name, value in changes.items() if name not in ("mode", "compile")})
    memory = torch.cuda.get_device_properties(0).total_memory
    # Three sides keep weights and moments beside the batch of the one that moves.
    fits = 256 if memory > 60e9 else 128 if memory > 20e9 else 64
    return Case(batch_size=fits).with_(**changes)


def wait(device: str) -> None:
    """Wait until the device has done everything."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def zoo_step(case: Case, batch: Batch) -> Step:
    """A step of zoo's trainer, all that belongs to it included."""
    state, plan = case.zoo()

    def step() -> None:
        state.count(train_step(state, *batch, plan))

    return step


def bare_step(case: Case, batch: Batch) -> Step:
    """The loop that one writes by hand for the same settings, with nothing around it."""
    from timm.utils import ModelEmaV3

    config, model = case.config, case.network()
    plain, decayed = [p for p in model.parameters() if p.ndim < 2], [p for p in model.parameters() if p.ndim > 1]
    groups = [{"params": plain, "weight_decay": 0.0}, {"params": decayed, "weight_decay": config.weight_decay}]
    optimizer = torch.optim.AdamW(groups, lr=config.lr / 100, fused=True)
    average = ModelEmaV3(model, decay=EMA, use_warmup=True)
    forward: Any = torch.compile(model) if case.compile else model
    mean = torch.tensor(case.preprocess.mean, device=case.device).mul(255).view(3, 1, 1)
    std = torch.tensor(case.preprocess.std, device=case.device).mul(255).view(3, 1, 1)
    steps, nhwc = count(), case.mode.layout == "nhwc"
    images, labels = torch.from_numpy(batch[0]), torch.from_numpy(batch[1])

    def step() -> None:
        pixels = (images.to(case.device, non_blocking=True).permute(0, 3, 1, 2).float() - mean) / std
        target = labels.to(case.device, non_blocking=True)
        with autocast(case.device, case.mode.precision):
            logits = forward(pixels if nhwc else pixels.contiguous())
            loss = torch.nn.functional.cross_entropy(logits, target, label_smoothing=config.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        average.update(model, step=next(steps))

    return step


def timm_step(case: Case, batch: Batch) -> Step:
    """The body of timm's `train_one_epoch` with `--amp --amp-dtype bfloat16 --channels-last`, else its defaults.

    That is SGD and no moving average (github.com/huggingface/pytorch-image-models, train.py), so it does less.
    """
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.optim import create_optimizer_v2
    from timm.scheduler import CosineLRScheduler
    from timm.utils import AverageMeter

    model = case.network()
    optimizer = create_optimizer_v2(model, opt="sgd", lr=0.1, weight_decay=2e-5, momentum=0.9)
    schedule = CosineLRScheduler(optimizer, t_initial=300, lr_min=0, warmup_t=5, warmup_lr_init=1e-5)
    forward: Any = torch.compile(model) if case.compile else model
    loss_fn = LabelSmoothingCrossEntropy(smoothing=0.1)  # type: ignore[no-untyped-call]
    losses = AverageMeter()  # type: ignore[no-untyped-call]
    mean = torch.tensor(case.preprocess.mean, device=case.device).mul(255).view(1, 3, 1, 1)
    std = torch.tensor(case.preprocess.std, device=case.device).mul(255).view(1, 3, 1, 1)
    form = torch.channels_last if case.mode.layout == "nhwc" else torch.contiguous_format
    # Its collate hands over uint8 [N, 3, H, W] in pinned memory.
    planes = torch.from_numpy(np.ascontiguousarray(batch[0].transpose(0, 3, 1, 2)))
    planes = planes.pin_memory() if case.device.startswith("cuda") else planes
    labels, updates = torch.from_numpy(batch[1]), count()

    def step() -> None:
        pixels = planes.to(case.device, non_blocking=True).to(torch.float32).sub_(mean).div_(std)
        target = labels.to(case.device, non_blocking=True)
        context: Any = autocast(case.device, case.mode.precision) if case.mode.precision != "fp32" else nullcontext()
        with context:
            loss = loss_fn(forward(pixels.contiguous(memory_format=form)), target)
        loss.backward()
        optimizer.step()
        losses.update(loss.item(), len(labels))  # type: ignore[no-untyped-call]
        optimizer.zero_grad()
        schedule.step_update(num_updates=next(updates), metric=losses.avg)

    return step
