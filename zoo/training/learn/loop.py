"""The loop, outside in: fit -> train_epoch -> train_step, and validate. No path and no print in here."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from zoo.errors import TrainingFailed
from zoo.training.learn.norms import estimate_norms
from zoo.training.learn.probe import fit_probe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zoo.training.learn.loaders import Loaders
    from zoo.training.learn.plan import Plan
    from zoo.training.learn.state import TrainState

CHECK_EVERY = 20
"""Steps between looks at the loss: each look waits for the device."""


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """What one epoch came to; the line that metrics.jsonl gets."""

    epoch: int
    """Counted from 1; 0 is the state before the first, where the classifier was fitted."""
    lr: float
    train: dict[str, float]
    """"loss", and the share that the task counts, of the augmented images, while the weights were moving."""
    val: dict[str, float]
    """"loss", and the task's figures, of the weights' moving average, where there is one."""
    seconds: float
    images_per_second: float
    best: bool

    def to_json(self) -> dict[str, float | int | bool]:
        """Return plain values, a figure of a split as in "val_loss"."""
        return {
            "epoch": self.epoch,
            "lr": self.lr,
            **{f"train_{name}": value for name, value in self.train.items()},
            **{f"val_{name}": value for name, value in self.val.items()},
            "seconds": self.seconds,
            "images_per_second": self.images_per_second,
            "best": self.best,
        }


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
    plan.schedule.load_state_dict(state.schedule)
    # Runs of older versions may have no history.
    if plan.begins_fitted and not state.history and state.epoch == state.step == 0:
        yield _begin_fitted(state, loaders, plan, after_step)
    while state.epoch < plan.epochs and not (plan.patience and state.stale_epochs >= plan.patience):
        begin, first_step = time.perf_counter(), state.step
        train = (_probe if plan.probe else train_epoch)(state, loaders, plan, after_step)
        seconds = time.perf_counter() - begin
        images = (len(loaders.train) - first_step) * loaders.train.batch_size
        estimate_norms(state, loaders, plan)
        # The state of a finished epoch's last step can be saved as well as any: a signal need not wait for the rest.
        val = validate(state, loaders, plan, lambda: after_step(state))
        score = plan.task.score(val)
        plan.schedule.end_epoch(score)
        state.schedule = plan.schedule.state_dict()
        best = state.end_epoch(score, val["loss"])
        yield EpochResult(
            epoch=state.epoch,
            lr=max(group["lr"] for group in state.optimizer.param_groups),
            train=train,
            val=val,
            seconds=seconds,
            images_per_second=images / seconds,
            best=best,
        )


def _begin_fitted(
    state: TrainState, loaders: Loaders, plan: Plan, after_step: Callable[[TrainState], None]
) -> EpochResult:
    """Put the fitted classifier in place of the random one, and tell what that comes to: as good as nothing moves yet.

    Training all from there keeps features that gradients of a random classifier would spoil (Kumar et al., "Fine-Tuning
    can Distort Pretrained Features and Underperform Out-of-Distribution", ICLR 2022, arXiv 2202.10054).
    """
    begin = time.perf_counter()
    train = _probe(state, loaders, plan, after_step)
    seconds = time.perf_counter() - begin
    val = validate(state, loaders, plan, lambda: after_step(state))
    best = state.judge(plan.task.score(val), val["loss"])
    state.beginning = {name: value.clone() for name, value in state.weights_to_ship().state_dict().items()}
    images = len(loaders.train.split)
    return EpochResult(
        epoch=0, lr=0.0, train=train, val=val, seconds=seconds, images_per_second=images / seconds, best=best
    )


def train_epoch(
    state: TrainState, loaders: Loaders, plan: Plan, after_step: Callable[[TrainState], None]
) -> dict[str, float]:
    """Run the rest of the current epoch; return mean loss, and what the task counts, over all of it."""
    plan.freezing.begin_epoch(state.model, state.epoch)
    state.replica.begin_epoch()
    for images, labels in loaders.train.epoch(state.epoch, start=state.step):
        complete = plan.ends_group(state.step)
        state.count(train_step(state, images, labels, plan))
        if state.step % CHECK_EVERY == 0:
            check_finite(state)
        # Within a group the gradient so far is nowhere but in memory.
        if complete:
            after_step(state)
    check_finite(state)
    mean_loss, right = state.means()
    return {"loss": mean_loss, plan.task.counted: right}


def train_step(state: TrainState, images: np.ndarray, labels: np.ndarray, plan: Plan) -> torch.Tensor:
    """Move the weights by one batch, or take its part of the gradient if there are more to come.

    Returns:
        float64 [3]: its loss times its images, how many were right, and how many there are, in all processes together;
        still on the device.
    """
    if plan.begins_group(state.step):
        plan.set_learning_rates(state)
        state.optimizer.zero_grad(set_to_none=True)
    plan.world.seed_step(plan.seed, state.epoch, state.step)
    with state.replica.step(last=plan.ends_group(state.step)):
        loss, right = _forward_and_backward(state, images, labels, plan)
    if plan.ends_group(state.step):
        _move(state, plan)
    return plan.world.sum(figures_of(loss, right))


def figures_of(loss: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return what `train_step` does, from the mean loss and bool [n], for one process."""
    # The GPUs of Macs have no float64.
    kind = torch.float32 if loss.device.type == "mps" else torch.float64
    # Filled there: a number that is copied there, as `torch.tensor` does it, waits for all that the device has to do.
    images = torch.full((), len(right), dtype=kind, device=loss.device)
    return torch.stack([loss.to(kind) * images, right.sum().to(kind), images])


def _forward_and_backward(
    state: TrainState, images: np.ndarray, labels: np.ndarray, plan: Plan
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add to the gradient; return the mean loss, and bool [n] of the images that were right."""
    with plan.autocast():
        pixels = plan.growth(plan.to_input(images), state.epoch)
        pixels, target = plan.mix(pixels, plan.to_target(labels), state)
        # Asked first, so that the teacher's memory is free again when the student takes its own.
        answers = plan.distillation.answers(pixels) if plan.distillation else None
        logits = state.replica(pixels)
        loss = plan.task.loss(logits, target)
        if plan.distillation and answers is not None:
            loss = plan.distillation.loss(loss, logits, answers)
    state.scaler.scale(loss / plan.group_size(state.step)).backward()
    return loss.detach(), plan.task.right(logits.detach(), target)


def _move(state: TrainState, plan: Plan) -> None:
    """Let the optimizer take the gradient, and the average follow."""
    if plan.clip_grad:
        state.scaler.unscale_(state.optimizer)
        plan.clip(state.model)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    if state.ema is not None:
        state.ema.update(state.model, step=plan.updates(state))


def _probe(
    state: TrainState, loaders: Loaders, plan: Plan, after_step: Callable[[TrainState], None]
) -> dict[str, float]:
    """Fit the classifier in place of an epoch; the same figures, of training images as they are evaluated."""
    logits, labels = fit_probe(state, loaders, plan, lambda: after_step(state))
    tally = plan.task.tally()
    tally.add(logits, plan.task.target(labels))
    figures = tally.figures()
    return {"loss": figures["loss"], plan.task.counted: figures[plan.task.counted]}


@torch.no_grad()
def validate(
    state: TrainState,
    loaders: Loaders,
    plan: Plan,
    after_batch: Callable[[], None] = lambda: None,
    model: torch.nn.Module | None = None,
) -> dict[str, float]:
    """Return the task's figures of a model, or the weights that would be shipped, on the validation split.

    Each process takes its share of the images, and all get the figures of the whole split.
    """
    model = (model or state.weights_to_ship()).eval()
    state.replica.agree(model)
    tally = plan.task.tally()
    for images, labels in loaders.val_batches():
        with plan.autocast():
            logits = _logits(model, images, plan)
        if not plan.world.alone:
            logits = torch.from_numpy(plan.world.rows(logits.cpu().numpy())).to(plan.device)
            labels = plan.world.rows(labels)
        if len(labels):
            tally.add(logits, plan.to_target(labels))
        after_batch()
    return tally.figures()


def _logits(model: torch.nn.Module, images: np.ndarray, plan: Plan) -> torch.Tensor:
    """Return float32 [n, C]; a process that has no images left computes one all the same: divided weights need all."""
    some = images if len(images) else np.zeros((1, *images.shape[1:]), np.uint8)
    logits: torch.Tensor = model(plan.to_input(some)).float()
    return logits[: len(images)]


def check_finite(state: TrainState) -> None:
    """Raise TrainingFailed before a loss that is not finite can spoil what is saved."""
    loss, _ = state.means()
    if not math.isfinite(loss):
        raise TrainingFailed(
            f"the loss became {loss} in epoch {state.epoch + 1}, at or before step {state.step}; the last checkpoint "
            "is intact: try a smaller --lr, --precision fp32 or --set clip_grad=1"
        )
