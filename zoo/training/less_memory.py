"""After memory ran out: on a card half the images a batch, twice the batches a step; on the machine one clear line."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from zoo.errors import TrainingFailed, first_line, lacks_memory
from zoo.records.config import Resolved

if TYPE_CHECKING:
    from zoo.records.run import Run
    from zoo.training.learn.plan import Plan
    from zoo.training.learn.state import TrainState
    from zoo.training.parts import Parts

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
    return Resolved(config=config, origins=origins), parts.with_chosen(replace(parts.chosen, batch_size=half))


def moved(payload: dict[str, Any], was: int, now: int) -> dict[str, Any]:
    """Return a checkpoint whose place inside the epoch is counted in batches of `now` images instead of `was`."""
    # Whole batches of before: so no step of the optimizer begins halfway.
    place = {**payload["place"], "step": payload["place"]["step"] * (was // now)}
    return {**payload, "place": place}


def tell_if_memory_ran_out(exc: BaseException, run: Run, state: TrainState, plan: Plan) -> None:
    """Raise TrainingFailed if the machine had no memory left, in this thread or in one that prepares batches.

    What is on disk is whole, so the run can go on; smaller batches would make it another one.
    """
    if not lacks_memory(exc):
        return
    where = f"after step {state.step} of epoch {state.epoch + 1}"
    if state.epoch >= plan.epochs:
        where = "while the best weights were measured"
    elif state.step >= plan.steps_per_epoch:
        where = f"while epoch {state.epoch + 1} was validated"
    raise TrainingFailed(
        f"out of memory {where}: {first_line(exc)}; the last checkpoint is intact: end other programs and go on with "
        f"`zoo train --resume --name {run.name} --workers 0`, or train anew with a smaller --batch-size or "
        "--image-size"
    ) from exc
