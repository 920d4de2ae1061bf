"""Batch norms' statistics, estimated anew for the weights that would ship, before these are judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from zoo.data.prepared import choose

if TYPE_CHECKING:
    from zoo.training.learn.loaders import Loaders
    from zoo.training.learn.plan import Plan
    from zoo.training.learn.state import TrainState

MOST_IMAGES = 256
"""As many as a few batches of training: what networks bear while they learn. More would cost small runs a third."""
BATCH = 64


@torch.no_grad()
def estimate_norms(state: TrainState, loaders: Loaders, plan: Plan) -> None:
    """Give the norms that follow the batches the statistics of training images, as evaluation prepares them.

    Running averages lag behind weights that move, and behind the weights' own average all the more: a run of few steps
    ends with statistics of weights that it never shipped. The mean over some batches under fixed weights does not
    (Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021, arXiv 2105.07576). It depends on weights and images alone,
    so that a resume comes to the same. Each of several processes computes all of it: none may be short of a batch.

    Args:
        state: Just behind an epoch's last step; statistics of the weights to ship are replaced in place.
        loaders: The training split.
        plan: How images become input.
    """
    following = [
        name for name, part in state.model.named_modules() if isinstance(part, _BatchNorm) and _follows_batches(part)
    ]
    places = _places(len(loaders.train.split))
    if not following or len(places) < 2:
        return
    model = state.weights_to_ship().eval()
    norms = [part for name, part in model.named_modules() if name in set(following) and isinstance(part, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        # None: the plain mean of all batches.
        norm.momentum = None
        norm.train()
    # Of equal size, as the mean takes them alike, and never of a single image, which has no variance.
    size = -(-len(places) // -(-len(places) // BATCH))
    for images, _ in loaders.whole(choose(loaders.train.split, places), size):
        if len(images) > 1:
            with plan.autocast():
                model(plan.to_input(images))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def _follows_batches(norm: _BatchNorm) -> bool:
    return norm.training and norm.track_running_stats


def _places(images: int) -> np.ndarray:
    """Return which images are taken, int64, in an order that mixes the classes; of so many always the same."""
    order: np.ndarray = np.random.default_rng(0).permutation(images)[:MOST_IMAGES]
    return order
