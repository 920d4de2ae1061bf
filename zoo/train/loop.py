"""The loop, outside in: fit -> train_epoch -> train_step, and validate. No path and no print in here."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch

from zoo.data.loader import evaluation_batches
from zoo.errors import TrainingFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np

    from zoo.data.loader import TrainLoader
    from zoo.plugin import Split
    from zoo.preprocess import Preprocess
    from zoo.train.plan import Plan
    from zoo.train.state import TrainState

CHECK_EVERY = 20
"""Steps between looks at the loss: each look waits for the device."""


@dataclass(frozen=True, kw_only=True)
class Loaders:
    """Where batches come from."""

    train: TrainLoader
    val: Split
    preprocess: Preprocess
    workers: int


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """What one epoch came to; the line that metrics.jsonl gets."""

    epoch: int
    """Counted from 1."""
    lr: float
    train_loss: float
    train_top1: float
    """Of the augmented images, while the weights were moving."""
    val_loss: float
    val_top1: float
    """Of the weights' moving average, where there is one."""
    seconds: float
    images_per_second: float
    best: bool

    def to_json(self) -> dict[str, float | int | bool]:
        """Return plain values."""
        return asdict(self)


def fit(
    state: TrainState, loaders: Loaders, plan: Plan, after_step: Callable[[TrainState], None] = lambda state: None
) -> Iterator[EpochResult]:
    """Train from wherever `state` stands, and yield a result after each epoch.

    Args:
        state: Moves on in place; between two yields it is at the start of an epoch.
        loaders: Training batches and the validation split.
        plan: The settings, resolved.
        after_step: Called when a step is complete and `state` could be saved; it may raise to stop.

    Raises:
        TrainingFailed: the loss is not finite.
    """
    while state.epoch < plan.epochs and not (plan.patience and state.stale_epochs >= plan.patience):
        begin, first_step = time.perf_counter(), state.step
        train_loss, train_top1 = train_epoch(state, loaders.train, plan, after_step)
        seconds = time.perf_counter() - begin
        images = (len(loaders.train) - first_step) * loaders.train.batch_size
        val_loss, val_top1 = validate(state, loaders, plan)
        best = state.end_epoch(val_top1, val_loss)
        yield EpochResult(
            epoch=state.epoch,
            lr=state.optimizer.param_groups[0]["lr"],
            train_loss=train_loss,
            train_top1=train_top1,
            val_loss=val_loss,
            val_top1=val_top1,
            seconds=seconds,
            images_per_second=images / seconds,
            best=best,
        )


def train_epoch(
    state: TrainState, loader: TrainLoader, plan: Plan, after_step: Callable[[TrainState], None]
) -> tuple[float, float]:
    """Run the rest of the current epoch; return mean loss and top-1 over all of it."""
    state.model.train()
    for images, labels in loader.epoch(state.epoch, start=state.step):
        loss, correct = train_step(state, images, labels, plan)
        state.count(loss, correct, len(labels))
        if state.step % CHECK_EVERY == 0:
            check_finite(state)
        after_step(state)
    check_finite(state)
    return state.means()


def train_step(
    state: TrainState, images: np.ndarray, labels: np.ndarray, plan: Plan
) -> tuple[torch.Tensor, torch.Tensor]:
    """Move the weights by one batch; return its mean loss and how many were right, still on the device."""
    plan.set_learning_rates(state)
    target = torch.from_numpy(labels).to(plan.device, non_blocking=True)
    with plan.autocast():
        logits = state.model(plan.to_input(images))
        loss = plan.loss(logits, target)
    state.optimizer.zero_grad(set_to_none=True)
    state.scaler.scale(loss).backward()
    if plan.clip_grad:
        state.scaler.unscale_(state.optimizer)
        torch.nn.utils.clip_grad_norm_(state.model.parameters(), plan.clip_grad)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    if state.ema is not None:
        state.ema.update(state.model, step=state.global_step(plan.steps_per_epoch))
    return loss.detach(), (logits.detach().argmax(1) == target).sum()


@torch.no_grad()
def validate(state: TrainState, loaders: Loaders, plan: Plan) -> tuple[float, float]:
    """Return mean cross-entropy and top-1 of the weights that would be shipped, on the validation split."""
    model = state.weights_to_ship().eval()
    loss = correct = torch.zeros((), device=plan.device)
    for images, labels in evaluation_batches(loaders.val, loaders.preprocess, workers=loaders.workers):
        target = torch.from_numpy(labels).to(plan.device)
        with plan.autocast():
            logits = model(plan.to_input(images)).float()
        loss = loss + torch.nn.functional.cross_entropy(logits, target, reduction="sum")
        correct = correct + (logits.argmax(1) == target).sum()
    return float(loss) / len(loaders.val), float(correct) / len(loaders.val)


def check_finite(state: TrainState) -> None:
    """Raise TrainingFailed before a loss that is not finite can spoil what is saved."""
    loss, _ = state.means()
    if not math.isfinite(loss):
        raise TrainingFailed(
            f"the loss became {loss} in epoch {state.epoch + 1}, at or before step {state.step}; the last checkpoint "
            "is intact: try a smaller --lr, --precision fp32 or --set clip_grad=1"
        )
