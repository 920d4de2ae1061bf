"""Weights between a run's beginning and its end, which ship where they are as good as the best epoch's.

Methods: Wortsman et al., "Robust fine-tuning of zero-shot models" (WiSE-FT, CVPR 2022, arXiv 2109.01903), here from the
fitted classifier to the last epoch; and the rule of one standard error (Breiman et al., "Classification and Regression
Trees", 1984): of models that some validation images cannot tell apart, the plainest is taken.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from zoo.training.learn.loop import validate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from zoo.training.learn.loaders import Loaders
    from zoo.training.learn.plan import Plan
    from zoo.training.learn.state import TrainState
    from zoo.training.learn.task import Task

SHARES = (0.5, 0.75, 0.25)
"""Of the last epoch's weights, the usual choice first."""


@dataclass(frozen=True, kw_only=True)
class Blend:
    """Weights on the way, and how good they are."""

    share: float
    weights: Mapping[str, torch.Tensor]
    score: float
    loss: float


def best_blend(
    state: TrainState, loaders: Loaders, plan: Plan, after_batch: Callable[[], None] = lambda: None
) -> Blend | None:
    """Return the weights on the way that should ship instead of the best epoch's.

    Args:
        state: Behind the last epoch; it is left as it is.
        loaders: The validation split.
        plan: The settings.
        after_batch: Called after each batch of images; it may raise to stop.

    Returns:
        None if the run did not begin with a fitted classifier, or no blend is good enough.
    """
    if state.beginning is None:
        return None
    end = state.weights_to_ship()
    model, blends = copy.deepcopy(end), []
    for share in SHARES:
        weights = between(state.beginning, end.state_dict(), share)
        model.load_state_dict(weights)
        figures = validate(state, loaders, plan, after_batch, model)
        blends.append(Blend(share=share, weights=weights, score=plan.task.score(figures), loss=figures["loss"]))
    return choose(blends, scores_of_epochs(plan.task, state.history), len(loaders.val))


def choose(blends: Sequence[Blend], epochs: Sequence[float], images: int) -> Blend | None:
    """Return the first blend that is less than one standard error below the best of all, and not below the beginning.

    Args:
        blends: The usual choice first.
        epochs: The score of each epoch, the beginning's first.
        images: That the scores were measured on.
    """
    best = max(*epochs, *(blend.score for blend in blends))
    enough = max(epochs[0], best - standard_error(best, images))
    return next((blend for blend in blends if blend.score >= enough), None)


def standard_error(score: float, images: int) -> float:
    """Return that of a share of `images`; 0 for a score that is none, such as a loss, where only the best will do."""
    if not 0 <= score <= 1:
        return 0.0
    # One image more of each kind, or all of ten images would be as sure as all of a thousand.
    share = (score * images + 1) / (images + 2)
    return math.sqrt(share * (1 - share) / images)


def scores_of_epochs(task: Task, history: Sequence[Mapping[str, float]]) -> list[float]:
    """Return the figure that decides, of each line of metrics.jsonl."""
    return [task.score({name.removeprefix("val_"): value for name, value in line.items()}) for line in history]


def between(
    beginning: Mapping[str, torch.Tensor], end: Mapping[str, torch.Tensor], share: float
) -> dict[str, torch.Tensor]:
    """Return the weights that lie at a share of the way from a beginning to an end; counters are the end's."""
    return {
        name: torch.lerp(beginning[name].to(value), value, share) if value.is_floating_point() else value
        for name, value in end.items()
    }
