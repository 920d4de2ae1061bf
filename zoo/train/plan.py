"""The configuration made into torch and timm pieces: device, precision, mixing, optimizer, schedule."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from zoo.shipped import Normalise
from zoo.train.mix import make_mixer
from zoo.train.transfer import Transfer

if TYPE_CHECKING:
    import numpy as np
    from timm.scheduler import CosineLRScheduler

    from zoo.config import TrainConfig
    from zoo.preprocess import Preprocess
    from zoo.train.choose import Chosen, Layout, Precision
    from zoo.train.mix import Mixer
    from zoo.train.state import TrainState
    from zoo.train.task import Task


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that the loop needs besides the state and the data."""

    epochs: int
    steps_per_epoch: int
    patience: int
    clip_grad: float
    device: torch.device
    precision: Precision
    layout: Layout
    task: Task
    mixer: Mixer | None
    normalise: Normalise
    transfer: Transfer
    schedule: CosineLRScheduler

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Return the context in which forward passes run."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16 if self.precision == "bf16" else torch.float16)

    def to_input(self, images: np.ndarray) -> torch.Tensor:
        """Move uint8 [N, H, W, 3] to the device and normalise it there to float32 [N, 3, H, W]."""
        pixels: torch.Tensor = self.normalise(self.transfer(images))
        return pixels if self.layout == "nhwc" else pixels.contiguous()

    def to_target(self, labels: np.ndarray) -> torch.Tensor:
        """Move a batch's labels to the device, as the task's loss takes them."""
        return self.task.target(labels).to(self.device, non_blocking=True)

    def mix(self, images: torch.Tensor, target: torch.Tensor, state: TrainState) -> tuple[torch.Tensor, torch.Tensor]:
        """Mix a batch of input as the state's step draws it; the same batch where nothing is mixed."""
        return self.mixer(images, target, state.epoch, state.step) if self.mixer else (images, target)

    def set_learning_rates(self, state: TrainState) -> None:
        """Give each parameter group of the optimizer the rate of the state's step."""
        self.schedule.step_update(state.global_step(self.steps_per_epoch))


def make_optimizer(model: torch.nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return AdamW with weight decay on weights only, not on norms and biases."""
    from timm.optim import create_optimizer_v2

    optimizer: torch.optim.Optimizer = create_optimizer_v2(
        model, opt="adamw", lr=config.lr, weight_decay=config.weight_decay, fused=True
    )
    return optimizer


def make_plan(
    config: TrainConfig,
    chosen: Chosen,
    preprocess: Preprocess,
    optimizer: torch.optim.Optimizer,
    steps_per_epoch: int,
    task: Task,
) -> Plan:
    """Put the pieces together, the task's loss moved to the device.

    The schedule is counted in steps: linear warm-up, then a cosine to 1 % of the rate.
    """
    from timm.scheduler import CosineLRScheduler

    task.loss.to(chosen.device)
    steps = max(2, config.epochs * steps_per_epoch)
    warmup = min(round(config.warmup_epochs * steps_per_epoch), steps - 1)
    schedule = CosineLRScheduler(
        optimizer,
        t_initial=steps,
        lr_min=config.lr / 100,
        warmup_t=warmup,
        warmup_lr_init=config.lr / 100,
        warmup_prefix=False,
        t_in_epochs=False,
    )
    return Plan(
        epochs=config.epochs,
        steps_per_epoch=steps_per_epoch,
        patience=config.patience,
        clip_grad=config.clip_grad,
        device=torch.device(chosen.device),
        precision=chosen.precision,
        layout=chosen.layout,
        task=task,
        mixer=make_mixer(config, task),
        normalise=Normalise(preprocess.mean, preprocess.std).to(chosen.device),
        transfer=Transfer(torch.device(chosen.device)),
        schedule=schedule,
    )
