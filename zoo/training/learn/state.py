"""Everything that moves while training (weights, their moving average, optimizer, random state), kept to the bit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from timm.utils import ModelEmaV3

    from zoo.training.machine.replica import Replica

SCHEMA = 1
AVERAGED_SHARE = 0.1
"""Of a run's steps, that the moving average of the weights reaches back over at most."""
PLACE = {
    "epoch": "epoch",
    "step": "step",
    # The name that checkpoints have had from the first, when every task was judged by top-1.
    "best_top1": "best_score",
    "best_loss": "best_loss",
    "stale_epochs": "stale_epochs",
    "blend": "blend",
}
"""Key in a checkpoint -> attribute of the state."""


@dataclass(kw_only=True)
class TrainState:
    """Weights, their moving average, optimizer, and the place in the run."""

    model: torch.nn.Module
    """float32 [N, 3, H, W] to logits [N, C], on the device."""
    ema: ModelEmaV3 | None
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    epoch: int = 0
    """Whole epochs behind us."""
    step: int = 0
    """Steps done inside the current epoch."""
    best_score: float = float("-inf")
    """Of the figure that the task watches, so that higher is better."""
    best_loss: float = float("inf")
    stale_epochs: int = 0
    blend: float = 0.0
    """Share of the last epoch in the best weights, where these lie between the beginning and it; else 0."""
    beginning: dict[str, torch.Tensor] | None = None
    """Weights and statistics, with a classifier that was fitted, before the first epoch; None if there was none."""
    totals: torch.Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))
    """Of the current epoch: loss times images, images that were right, images."""
    replica: Replica
    """What training steps call instead of the model, with the same weights."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """The lines of metrics.jsonl."""
    schedule: dict[str, Any] = field(default_factory=dict)
    """What the learning rate's schedule remembers besides the step, as plain values."""

    def count(self, figures: torch.Tensor) -> None:
        """Take note of one step: its loss times its images, images that were right, images."""
        self.totals = self.totals.to(figures) + figures
        self.step += 1

    def means(self) -> tuple[float, float]:
        """Return mean loss and share of images that were right, of the current epoch so far."""
        loss, correct, images = self.totals.tolist()
        return loss / max(images, 1), correct / max(images, 1)

    def global_step(self, steps_per_epoch: int) -> int:
        """Return the number of steps since the run began."""
        return self.epoch * steps_per_epoch + self.step

    @property
    def best_epoch(self) -> int | None:
        """The epoch of the best weights, as `history` has it: 0 is the beginning; None before there is one."""
        return next((line["epoch"] for line in reversed(self.history) if line["best"]), None)

    def weights_to_ship(self) -> torch.nn.Module:
        """Return the moving average where there is one, else the model."""
        return self.model if self.ema is None else self.ema.module

    def judge(self, score: float, val_loss: float) -> bool:
        """Tell whether the weights are the best so far, by score, then by loss, and take note of it."""
        best = (score, -val_loss) > (self.best_score, -self.best_loss)
        if best:
            self.best_score, self.best_loss = score, val_loss
        return best

    def end_epoch(self, score: float, val_loss: float) -> bool:
        """Go to the start of the next epoch; tell whether this one was the best."""
        best = self.judge(score, val_loss)
        self.stale_epochs = 0 if best else self.stale_epochs + 1
        self.epoch, self.step = self.epoch + 1, 0
        self.totals = torch.zeros_like(self.totals)
        return best

    def to_payload(self) -> dict[str, Any]:
        """Return everything as tensors and plain values; called in every process, whole in those that write."""
        return {
            "schema": SCHEMA,
            "model": self.replica.state_of(self.model),
            "ema": self.replica.state_of(self.ema.module) if self.ema else None,
            "optimizer": self.replica.state_of_optimizer(self.optimizer),
            "scaler": self.scaler.state_dict(),
            "place": {place: getattr(self, name) for place, name in PLACE.items()},
            "totals": self.totals.cpu(),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "history": self.history,
            "beginning": self.beginning,
            "schedule": self.schedule,
        }

    def load(self, payload: dict[str, Any]) -> None:
        """Take everything back, random state included."""
        self.replica.load(self.model, payload["model"])
        if self.ema is not None:
            self.replica.load(self.ema.module, payload["ema"])
        self.replica.load_optimizer(self.optimizer, payload["optimizer"])
        self.scaler.load_state_dict(payload["scaler"])
        for place, value in payload["place"].items():
            setattr(self, PLACE[place], value)
        self.totals = payload["totals"]
        self.history = payload.get("history", [])
        self.beginning = payload.get("beginning")
        self.schedule = payload.get("schedule", {})
        torch.set_rng_state(payload["rng"])
        # Of as many GPUs as there were; here may be fewer, or more.
        if torch.cuda.is_available():
            torch.cuda.set_rng_state_all(payload["cuda_rng"][: torch.cuda.device_count()])


def make_average(model: torch.nn.Module, decay: float, updates: int = 0, *, divided: bool = False) -> ModelEmaV3 | None:
    """Return the moving average of a model's weights; None for a decay of 0.

    Args:
        model: On its device.
        decay: The weight of what was before, in each step of the optimizer.
        updates: Steps that the run has, 0 if nobody knows. An average that reaches back over more than a tenth of them
            would still hold the beginning at the end, so that its decay is lowered.
        divided: Whether the weights will be divided among processes.
    """
    from timm.utils import ModelEmaV3

    if not decay:
        return None
    longest = max(0.0, 1 - 1 / (AVERAGED_SHARE * updates)) if updates else 1.0
    # Statistics of norms are not divided, and PyTorch's kernels for many tensors at once take no mixture of both.
    return ModelEmaV3(model, decay=min(decay, longest), use_warmup=True, foreach=not divided)


def make_state(
    replica: Replica, optimizer: torch.optim.Optimizer, ema: ModelEmaV3 | None = None, *, fp16: bool = False
) -> TrainState:
    """Return the state of a run that has not begun."""
    scaler = torch.amp.GradScaler("cuda", enabled=fp16)
    return TrainState(model=replica.model, replica=replica, ema=ema, optimizer=optimizer, scaler=scaler)
