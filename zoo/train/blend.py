"""Weights between a run's beginning and its end, judged like those of an epoch: often better than both.

Method: Wortsman et al., "Robust fine-tuning of zero-shot models" (WiSE-FT, CVPR 2022, arXiv 2109.01903), here from the
fitted classifier to the last epoch, with the share chosen on the validation images.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from zoo.train.loop import validate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from zoo.train.loaders import Loaders
    from zoo.train.plan import Plan
    from zoo.train.state import TrainState

SHARES = (0.75, 0.5, 0.25)
"""Of the last epoch's weights."""


@dataclass(frozen=True, kw_only=True)
class Blend:
    """Weights on the way, and whether they are the best so far."""

    model: torch.nn.Module
    best: bool


def blends(state: TrainState, loaders: Loaders, plan: Plan, after_batch: Callable[[], None]) -> Iterator[Blend]:
    """Yield each, once it is judged; none where a run did not begin with a fitted classifier.

    Args:
        state: Behind the last epoch; it takes note of the best.
        loaders: The validation split.
        plan: The settings.
        after_batch: Called after each batch of images; it may raise to stop.
    """
    if state.beginning is None:
        return
    end = state.weights_to_ship()
    model = copy.deepcopy(end)
    for share in SHARES:
        model.load_state_dict(between(state.beginning, end.state_dict(), share))
        val = validate(state, loaders, plan, after_batch, model)
        best = state.judge(plan.task.score(val), val["loss"])
        if best:
            state.blend = share
        yield Blend(model=model, best=best)


def between(
    beginning: Mapping[str, torch.Tensor], end: Mapping[str, torch.Tensor], share: float
) -> dict[str, torch.Tensor]:
    """Return the weights that lie at a share of the way from a beginning to an end; counters are the end's."""
    return {
        name: torch.lerp(beginning[name].to(value), value, share) if value.is_floating_point() else value
        for name, value in end.items()
    }
