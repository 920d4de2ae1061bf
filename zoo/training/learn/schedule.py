"""The learning rate as a function of the step: timm's and PyTorch's schedules behind one face."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from timm.scheduler.scheduler import Scheduler

    from zoo.records.config import TrainConfig

LOWEST = 100
"""What the rate is divided by where warm-up begins and where a schedule ends."""
STEPS_DOWN = 3
"""Equal parts that schedule "step" has if `decay_epochs` does not say."""
PATIENT = 10
"""That part of the epochs schedule "plateau" waits for if `decay_epochs` does not say; two epochs at least."""


class Rates(Protocol):
    """The rate of the groups that have no scale of their own."""

    def at(self, update: int) -> float:
        """Return the rate of an update, counted from 0."""


class Schedule:
    """Gives the optimizer's groups their rates, each by its `lr_scale` where it has one."""

    def __init__(self, optimizer: torch.optim.Optimizer, rates: Rates) -> None:
        self.optimizer = optimizer
        self.rates = rates

    def step_update(self, update: int) -> None:
        """Set the rates for an update, counted from 0."""
        rate = self.rates.at(update)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"] if "lr_scale" in group else rate

    def end_epoch(self, score: float) -> None:
        """Take the validation figure that is watched, higher is better; only "plateau" listens."""
        if isinstance(self.rates, _Plateau):
            self.rates.listen(score)

    def state_dict(self) -> dict[str, Any]:
        """Return what the step alone does not tell, as plain values; empty for all but "plateau"."""
        return self.rates.state_dict() if isinstance(self.rates, _Plateau) else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        if isinstance(self.rates, _Plateau) and state:
            self.rates.load_state_dict(state)


def make_schedule(optimizer: torch.optim.Optimizer, config: TrainConfig, updates_per_epoch: int) -> Schedule:
    """Return what `schedule` asks for.

    Args:
        optimizer: Its groups get their rates.
        config: `schedule`, `lr`, `epochs`, `warmup_epochs`, `decay_epochs` and `decay_rate` are read.
        updates_per_epoch: Steps of the optimizer.
    """
    updates = max(2, config.epoch_count * updates_per_epoch)
    if config.schedule == "onecycle":
        return Schedule(optimizer, _OneCycle(config.lr, updates))
    if config.schedule == "cosine":
        return Schedule(optimizer, _ByTimm(_cosine(config, updates, updates_per_epoch)))
    decay_t, rate = updates, 1.0
    if config.schedule == "step":
        decay_t = config.decay_epochs * updates_per_epoch or math.ceil(updates / STEPS_DOWN)
        rate = config.decay_rate
    steady = _ByTimm(_steps(config, decay_t, rate, _warmup(config, updates, updates_per_epoch)))
    return Schedule(optimizer, _Plateau(steady, config) if config.schedule == "plateau" else steady)


def _stand_in(lr: float) -> torch.optim.Optimizer:
    """Return an optimizer of nothing, for schedules that write their rate into one."""
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr)


def _warmup(config: TrainConfig, updates: int, updates_per_epoch: int) -> int:
    # A recipe for a hundred epochs has a warm-up that would outlast a run of three.
    return min(round(config.warmup_epochs * updates_per_epoch), updates // 2)


def _cosine(config: TrainConfig, updates: int, updates_per_epoch: int) -> Scheduler:
    """Linear warm-up, then a cosine down (Loshchilov and Hutter, "SGDR", ICLR 2017, arXiv 1608.03983)."""
    from timm.scheduler import CosineLRScheduler

    return CosineLRScheduler(
        _stand_in(config.lr),
        t_initial=updates,
        lr_min=config.lr / LOWEST,
        warmup_t=_warmup(config, updates, updates_per_epoch),
        warmup_lr_init=config.lr / LOWEST,
        warmup_prefix=False,
        t_in_epochs=False,
    )


def _steps(config: TrainConfig, decay_t: int, decay_rate: float, warmup: int) -> Scheduler:
    from timm.scheduler import StepLRScheduler

    return StepLRScheduler(
        _stand_in(config.lr),
        decay_t=decay_t,
        decay_rate=decay_rate,
        warmup_t=warmup,
        warmup_lr_init=config.lr / LOWEST,
        warmup_prefix=False,
        t_in_epochs=False,
    )


class _ByTimm:
    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler

    def at(self, update: int) -> float:
        self.scheduler.step_update(update)
        return float(self.scheduler.optimizer.param_groups[0]["lr"])


class _OneCycle:
    """Up for 30 % of the updates, then down (Smith and Topin, "Super-Convergence", 2018, arXiv 1708.07120)."""

    def __init__(self, lr: float, updates: int) -> None:
        optimizer = _stand_in(lr)
        self.last = updates - 1
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, updates, cycle_momentum=False)
        # PyTorch warns of a schedule that steps before its optimizer has.
        optimizer.step()

    def at(self, update: int) -> float:
        # Its rate follows from `last_epoch` alone, so that any update can be asked for, in any order.
        self.scheduler.last_epoch = min(update, self.last) - 1
        self.scheduler.step()
        return float(self.scheduler.optimizer.param_groups[0]["lr"])


class _Plateau:
    """A steady rate after warm-up that falls whenever the watched figure has not become better for a while.

    timm's own is deprecated, since it cannot be resumed; PyTorch's, which it wraps, can.
    """

    def __init__(self, steady: Rates, config: TrainConfig) -> None:
        self.steady = steady
        self.share = _stand_in(1.0)
        self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.share,
            mode="max",
            factor=config.decay_rate,
            # PyTorch's patience is how many epochs are forgiven: the one after them lowers the rate.
            patience=(config.decay_epochs or max(2, config.epoch_count // PATIENT)) - 1,
            threshold_mode="abs",
            min_lr=1 / LOWEST,
        )

    def at(self, update: int) -> float:
        return self.steady.at(update) * float(self.share.param_groups[0]["lr"])

    def listen(self, score: float) -> None:
        self.scheduler.step(score)

    def state_dict(self) -> dict[str, Any]:
        moving = {key: getattr(self.scheduler, key) for key in ("best", "num_bad_epochs", "last_epoch")}
        return {**moving, "share": float(self.share.param_groups[0]["lr"])}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.scheduler.load_state_dict({key: state[key] for key in ("best", "num_bad_epochs", "last_epoch")})
        self.share.param_groups[0]["lr"] = state["share"]
