"""Weights that the user names, loaded into a timm model: the same layout, another head, or an original release."""

from __future__ import annotations

import contextlib
import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.errors import CheckpointInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import torch

NOT_LOADED = re.compile(r"^(?:Missing|Unexpected) keys \((.*?)\)")
NAMED_KEYS = 3


@dataclass(frozen=True)
class Misfit:
    """How a state dict differs from a model's own."""

    missing: Sequence[str]
    unexpected: Sequence[str]
    reshaped: Sequence[str]

    @classmethod
    def between(cls, own: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> Misfit:
        """Compare names and shapes."""
        return cls(
            missing=[key for key in own if key not in given],
            unexpected=[key for key in given if key not in own],
            reshaped=[key for key, value in given.items() if key in own and own[key].shape != value.shape],
        )

    def __str__(self) -> str:
        parts = {"missing": self.missing, "unexpected": self.unexpected, "of another shape": self.reshaped}
        return ", ".join(f"{what}: {_some(keys)}" for what, keys in parts.items() if keys)


def load_given(
    build: Callable[..., torch.nn.Module],
    weights: Mapping[str, torch.Tensor],
    *,
    model: str,
    num_classes: int,
    head: frozenset[str],
) -> torch.nn.Module:
    """Build a model with `weights`; a head of another width stays new, all else must fit.

    Args:
        build: Makes the model; takes further keywords of `timm.create_model`.
        weights: A state dict, timm's or one that timm knows how to translate.
        model: Its name, for messages.
        num_classes: Width of the model's head.
        head: The names of the head's own weights.

    Raises:
        CheckpointInvalid: they do not fit; the first keys are named.
    """
    if not weights:
        raise CheckpointInvalid(f"the weights for {model} are empty; name a file that holds a state dict")
    made = build()
    misfit = Misfit.between(made.state_dict(), weights)
    if not misfit.unexpected and head.issuperset([*misfit.missing, *misfit.reshaped]):
        made.load_state_dict({k: v for k, v in weights.items() if k not in misfit.reshaped}, strict=False)
        return made
    # With its own number of classes timm loads the head too; with another one it drops the head.
    for classes_in_file in (num_classes, 0):
        translated = _translate(build, weights, classes_in_file, head)
        if translated is not None:
            return translated
    raise CheckpointInvalid(f"the weights do not fit {model} ({misfit}); name the weights of that architecture")


def _translate(
    build: Callable[..., torch.nn.Module],
    weights: Mapping[str, torch.Tensor],
    classes_in_file: int,
    head: frozenset[str],
) -> torch.nn.Module | None:
    """Let timm translate an original release, or resize position embeddings; None if that does not fit either."""
    overlay = {"state_dict": dict(weights), "num_classes": classes_in_file, "label_offset": None}
    with _keys_not_loaded() as left_out:
        try:
            made = build(pretrained=True, pretrained_cfg_overlay=overlay)
        except Exception:  # timm's translators meet a foreign file with whatever error its first surprise gives
            return None
    return made if head.issuperset(left_out) else None


@contextlib.contextmanager
def _keys_not_loaded() -> Iterator[list[str]]:
    """Collect the keys that timm leaves out without failing: a few of its models load loosely, and only log it."""
    found: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            keys = NOT_LOADED.match(record.getMessage())
            found.extend(keys[1].split(", ") if keys else [])

    logger = logging.getLogger("timm.models._builder")
    level, propagate, listener = logger.level, logger.propagate, Listener()
    logger.addHandler(listener)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield found
    finally:
        logger.removeHandler(listener)
        logger.setLevel(level)
        logger.propagate = propagate


def _some(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - NAMED_KEYS} more" if len(keys) > NAMED_KEYS else ""
    return " ".join(keys[:NAMED_KEYS]) + more
