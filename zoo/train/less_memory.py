"""After the device ran out of memory: half the images a batch, twice the batches a step of the optimizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.config import Resolved
from zoo.errors import TrainingFailed

if TYPE_CHECKING:
    from zoo.train.parts import Parts

ORIGIN = "out of memory"
"""Where run.json says that the two options come from."""


def halved(resolved: Resolved, parts: Parts) -> tuple[Resolved, Parts]:
    """Return options and parts with half the images a batch, and as many as before in each step of the optimizer.

    Raises:
        TrainingFailed: two images are too many already.
    """
    was = parts.loaders.train.batch_size
    if was <= 2:
        raise TrainingFailed(f"out of memory with {was} images a batch; try a smaller --image-size or model")
    # Even, since mixup takes them in pairs.
    half = max(2, was // 4 * 2)
    config = resolved.config.model_copy(
        update={"batch_size": half, "accumulate": resolved.config.accumulate * (was // half)}
    )
    origins = {**resolved.origins, "batch_size": ORIGIN, "accumulate": ORIGIN}
    return Resolved(config=config, origins=origins), parts.with_batch_size(half)


def moved(payload: dict[str, Any], was: int, now: int) -> dict[str, Any]:
    """Return a checkpoint whose place inside the epoch is counted in batches of `now` images instead of `was`."""
    # Whole batches of before: so no step of the optimizer begins halfway.
    place = {**payload["place"], "step": payload["place"]["step"] * (was // now)}
    return {**payload, "place": place}
