"""A linear probe: the classifier fitted by scikit-learn to features that the backbone gives once."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from zoo.data.prepared import choose
from zoo.errors import OptionInvalid
from zoo.training.learn.freeze import classifier_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zoo.contracts.plugins import Split
    from zoo.data.loader import Batch
    from zoo.records.config import TrainConfig
    from zoo.training.learn.loaders import Loaders
    from zoo.training.learn.plan import Plan
    from zoo.training.learn.state import TrainState

STRENGTHS = (0.003, 0.03, 0.3, 3.0)
"""Inverse strengths of regularisation that are tried; the validation split chooses."""
ROUNDS = 300
"""Iterations of a fit; features are standardised, so that more would change nothing that matters."""
MOST_IMAGES = 20_000
MOST_PRODUCTS = 4e9
"""Images x features x classes of a fit that is only a beginning: more than a minute or two would not pay."""
FEWEST_OF_A_CLASS = 5
Line = tuple[np.ndarray, np.ndarray]
"""float64 [C, D] and [C]."""


def begins_fitted(model: torch.nn.Module, config: TrainConfig, images: int) -> bool:
    """Tell whether a classifier is fitted to so many training images before the first epoch."""
    if config.head != "auto" or config.probe:
        return config.head == "probe" and not config.probe
    # Random features are worth little; int8's rounding and divided weights have beginnings of their own.
    if not (config.pretrained or config.weights) or config.qat or config.fsdp:
        return False
    try:
        head = classifier_of(model)
    except OptionInvalid:
        return False
    wanted = FEWEST_OF_A_CLASS * head.out_features if isinstance(head, torch.nn.Linear) else 0
    return isinstance(head, torch.nn.Linear) and sample_size(head, images) >= min(images, wanted)


def sample_size(head: torch.nn.Linear, images: int) -> int:
    """Return how many of so many training images a classifier is fitted to that training begins with."""
    return min(images, MOST_IMAGES, int(MOST_PRODUCTS // (head.in_features * head.out_features)))


def fit_probe(
    state: TrainState, loaders: Loaders, plan: Plan, after_batch: Callable[[], None]
) -> tuple[torch.Tensor, np.ndarray]:
    """Put the best linear classifier of frozen features into the model, and into its moving average.

    Images are prepared as in evaluation, so that each has one feature vector, computed once and kept in memory. Each of
    several processes computes all of them, in the same order, and the first one fits: a fit ends elsewhere in another.

    Args:
        state: Its model's classifier is replaced in place; nothing else moves.
        loaders: The training split that is fitted, and the validation split that chooses the regularisation.
        plan: How images become input, and the figure that is watched.
        after_batch: Called after each batch; it may raise to stop, with the state as it was.

    Returns:
        Logits float32 [N, C] of the training images that were taken, and their labels.
    """
    head = classifier_of(state.model)
    assert isinstance(head, torch.nn.Linear)
    train = loaders.whole(_fitted(head, loaders, plan))
    features, labels = _features(state.model, head, train, plan, after_batch)
    val_features, val_labels = _features(state.model, head, loaders.whole(loaders.val), plan, after_batch)
    mean, spread = features.mean(0), features.std(0) + 1e-6
    best: Line | None = None
    best_score = -np.inf
    # As many threads as a process has would give other bits in another, and a killed run other weights.
    with threadpool_limits(1):
        for strength in STRENGTHS:
            fit = functools.partial(fit_line, (features - mean) / spread, labels, head.out_features, strength)
            weight, bias = plan.world.by_first(fit)
            line = weight / spread, bias - (weight / spread) @ mean
            tally = plan.task.tally()
            tally.add(_logits(line, val_features), plan.task.target(val_labels))
            score = plan.task.score(tally.figures())
            if best is None or score > best_score:
                best, best_score = line, score
            after_batch()
        assert best is not None
        _put(head, best)
        if state.ema is not None:
            state.ema.set(state.model)  # type: ignore[no-untyped-call]
        return _logits(best, features), labels


def _fitted(head: torch.nn.Linear, loaders: Loaders, plan: Plan) -> Split:
    """Return the training images that are taken: all for a probe, else as many as a beginning is worth."""
    train, split = loaders.train, loaders.train.split
    if plan.probe or (count := sample_size(head, len(split))) == len(split):
        return split
    return choose(split, np.sort(np.random.default_rng(train.seed).permutation(len(split))[:count]))


@torch.no_grad()
def _features(
    model: torch.nn.Module, head: torch.nn.Linear, batches: Iterator[Batch], plan: Plan, after_batch: Callable[[], None]
) -> tuple[np.ndarray, np.ndarray]:
    """Return what comes to the classifier, float32 [N, D], and the labels."""
    model.eval()
    found: list[np.ndarray] = []
    labels: list[np.ndarray] = []

    def keep(_: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        found.append(inputs[0].float().cpu().numpy())

    hook = head.register_forward_pre_hook(keep)
    try:
        for images, of_images in batches:
            with plan.autocast():
                model(plan.to_input(images))
            labels.append(of_images)
            after_batch()
    finally:
        hook.remove()
    if any(rows.ndim != 2 for rows in found):
        raise OptionInvalid(
            "this model's classifier takes more than one vector an image; leave --probe out, or --set head=random"
        )
    return np.concatenate(found), np.concatenate(labels)


def fit_line(features: np.ndarray, labels: np.ndarray, classes: int, strength: float) -> Line:
    """Fit logistic regression: one for all classes, or one a label."""
    if labels.ndim == 2:
        lines = [_binary(features, labels[:, label], strength) for label in range(classes)]
        return np.stack([weight for weight, _ in lines]), np.array([bias for _, bias in lines])
    if classes == 2:
        # Half of it on each side: the softmax of the two is the sigmoid of their difference.
        weight, bias = _binary(features, labels, strength)
        return np.stack([-weight, weight]) / 2, np.array([-bias, bias]) / 2
    fitted = _regression(strength).fit(features, labels)
    # A class that no image shows stays at zero features and is never said.
    weights, biases = np.zeros((classes, features.shape[1])), np.full(classes, fitted.intercept_.min() - 10.0)
    weights[fitted.classes_], biases[fitted.classes_] = fitted.coef_, fitted.intercept_
    return weights, biases


def _binary(features: np.ndarray, labels: np.ndarray, strength: float) -> tuple[np.ndarray, float]:
    if len(np.unique(labels)) == 1:
        return np.zeros(features.shape[1]), 10.0 if labels[0] else -10.0
    fitted = _regression(strength).fit(features, labels)
    return fitted.coef_[0], float(fitted.intercept_[0])


def _regression(strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, max_iter=ROUNDS)


def _logits(line: Line, features: np.ndarray) -> torch.Tensor:
    weight, bias = line
    return torch.from_numpy((features @ weight.T + bias).astype(np.float32))


@torch.no_grad()
def _put(head: torch.nn.Linear, line: Line) -> None:
    weight, bias = line
    head.weight.copy_(torch.from_numpy(weight))
    if head.bias is not None:
        head.bias.copy_(torch.from_numpy(bias))
