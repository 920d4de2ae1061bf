"""The configuration made into what a step needs: device, precision, mixing, schedule, accumulation, freezing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from zoo.contracts.shipped import Normalise
from zoo.errors import OptionInvalid
from zoo.training.learn.freeze import Freezing
from zoo.training.learn.mix import make_mixer
from zoo.training.learn.optimizer import check_optimizer
from zoo.training.learn.resize import Growth, make_growth
from zoo.training.learn.schedule import make_schedule
from zoo.training.machine.choose import autocast
from zoo.training.machine.transfer import Transfer
from zoo.training.machine.world import ALONE

if TYPE_CHECKING:
    import contextlib

    import numpy as np

    from zoo.contracts.preprocess import Preprocess
    from zoo.records.config import TrainConfig
    from zoo.records.options import ClipMode
    from zoo.training.learn.distill import Distillation
    from zoo.training.learn.mix import Mixer
    from zoo.training.learn.schedule import Schedule
    from zoo.training.learn.state import TrainState
    from zoo.training.learn.task import Task
    from zoo.training.machine.choose import Chosen, Layout, Precision
    from zoo.training.machine.world import World


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that the loop needs besides the state and the data."""

    epochs: int
    steps_per_epoch: int
    patience: int
    clip_grad: float
    clip_mode: ClipMode
    accumulate: int
    """Batches that one step of the optimizer takes its gradient from."""
    device: torch.device
    precision: Precision
    layout: Layout
    task: Task
    mixer: Mixer | None
    normalise: Normalise
    transfer: Transfer
    schedule: Schedule
    freezing: Freezing
    growth: Growth
    probe: bool
    """Whether the classifier is fitted in one go, to features computed once."""
    begins_fitted: bool = False
    """Whether it is fitted so before the first epoch, and everything trained from there."""
    distillation: Distillation | None = None
    """What asks a teacher in each step, if there is one."""
    world: World = ALONE
    """The processes that train together."""
    seed: int = 0

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Return the context in which forward passes run."""
        return autocast(self.device.type, self.precision)

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
        self.schedule.step_update(self.updates(state))

    def updates(self, state: TrainState) -> int:
        """Return how many steps the optimizer has taken; with accumulation they are fewer than the state's."""
        return state.epoch * _groups(self.steps_per_epoch, self.accumulate) + state.step // self.accumulate

    def group_size(self, step: int) -> int:
        """Return how many batches the group has that a step of an epoch belongs to; the last may have fewer."""
        return min(self.accumulate, self.steps_per_epoch - step // self.accumulate * self.accumulate)

    def begins_group(self, step: int) -> bool:
        """Tell whether there is no gradient yet before a step of an epoch."""
        return step % self.accumulate == 0

    def ends_group(self, step: int) -> bool:
        """Tell whether the optimizer moves after a step of an epoch."""
        return (step + 1) % self.accumulate == 0 or step + 1 == self.steps_per_epoch

    def clip(self, model: torch.nn.Module) -> None:
        """Clip the gradients; adaptively ("agc") all but the classifier's, as its paper has it."""
        from timm.models import model_parameters
        from timm.utils.clip_grad import dispatch_clip_grad

        parameters = model_parameters(model, exclude_head=self.clip_mode == "agc")
        dispatch_clip_grad(parameters, self.clip_grad, mode=self.clip_mode)


def check_plan(config: TrainConfig) -> None:
    """Raise OptionInvalid for what no model and no data could make right, before anything is prepared."""
    check_optimizer(config)
    if config.unfreeze_epoch and not config.freeze:
        raise OptionInvalid("unfreeze_epoch says when what was frozen moves; add --freeze backbone, or leave it out")


def _groups(steps_per_epoch: int, accumulate: int) -> int:
    return -(-steps_per_epoch // accumulate)


def make_plan(
    config: TrainConfig,
    chosen: Chosen,
    preprocess: Preprocess,
    optimizer: torch.optim.Optimizer,
    steps_per_epoch: int,
    task: Task,
) -> Plan:
    """Put the pieces together, the task's loss moved to the device; the schedule is counted in updates."""
    task.loss.to(chosen.device)
    return Plan(
        # A probe is fitted once.
        epochs=1 if config.probe else config.epoch_count,
        steps_per_epoch=steps_per_epoch,
        patience=config.patience,
        clip_grad=config.clip_grad,
        clip_mode=config.clip_mode,
        accumulate=config.accumulate,
        device=torch.device(chosen.device),
        precision=chosen.precision,
        layout=chosen.layout,
        task=task,
        mixer=make_mixer(config, task),
        normalise=Normalise(preprocess.mean, preprocess.std).to(chosen.device),
        transfer=Transfer(torch.device(chosen.device)),
        schedule=make_schedule(optimizer, config, _groups(steps_per_epoch, config.accumulate)),
        freezing=Freezing(
            frozen=bool(config.freeze),
            unfreeze_epoch=config.unfreeze_epoch,
            norms_rest=config.qat or (config.batchnorm == "frozen" and config.begins_trained),
        ),
        growth=make_growth(config, preprocess.size),
        probe=config.probe,
    )
