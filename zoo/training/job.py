"""A run that goes on: epochs trained and saved, stops agreed on, less memory taken where it runs out, the end."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from zoo.catalogue.made.tracker import Trackers, make_trackers
from zoo.disk.weights import save_weights
from zoo.errors import (
    EXIT_TERMINATED,
    Elsewhere,
    Interrupted,
    OptionInvalid,
    Terminated,
    TrainingFailed,
    fills_card,
)
from zoo.training.assemble import set_up
from zoo.training.checkpoint import About, Checkpoints, read_checkpoint
from zoo.training.finish import finish
from zoo.training.learn.blend import best_blend
from zoo.training.learn.loop import EpochResult, fit
from zoo.training.learn.qat import plain_weights
from zoo.training.less_memory import halved, moved, tell_if_memory_ran_out
from zoo.training.machine.world import Votes, World
from zoo.training.parts import Parts, fresh_backbone

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zoo.catalogue import Catalogue
    from zoo.records.config import Resolved
    from zoo.records.run import Run
    from zoo.training.learn.plan import Plan
    from zoo.training.learn.state import TrainState
    from zoo.training.watch import Watch

TIMED = frozenset({"seconds", "images_per_second"})
"""What differs each time; metrics.jsonl is the same to the byte however often a run was stopped."""


def how_to_go_on(run: Run, world: World) -> str:
    """Return what a user can do with a run that stopped."""
    return f"go on with `zoo train --resume --name {run.name}`" + ("" if world.alone else ", started as before")


def locked(run: Run, world: World) -> contextlib.AbstractContextManager[None]:
    """Keep others from training in a run's folder; one of its own processes does that for all."""
    return run.locked() if world.first else contextlib.nullcontext()


@dataclass
class Job:
    """A run that is about to go on."""

    catalogue: Catalogue
    run: Run
    resolved: Resolved
    parts: Parts
    state: TrainState
    plan: Plan
    watch: Watch

    @functools.cached_property
    def checkpoints(self) -> Checkpoints:
        """Where the state is kept, and what it belongs to."""
        parts = self.parts
        about = About(
            config=self.resolved.config.model_dump(mode="json"),
            origins=self.resolved.origins,
            chosen=asdict(parts.chosen),
            fingerprint=parts.data.fingerprint,
            classes=list(parts.data.classes),
            class_weights=parts.weights,
            teacher=parts.teacher.facts() if parts.teacher else {},
            parent=parts.parent,
            versions=parts.versions,
            # Not a copy: what turns out to be broken later is saved as well.
            broken=parts.loaders.train.faults.found,
            plugins=parts.owners,
        )
        return Checkpoints(self.run, self.resolved.config, about, writes=self.plan.world.first)

    @functools.cached_property
    def votes(self) -> Votes:
        """How processes agree on when to save and when to stop."""
        return Votes(self.plan.world)

    def after_step(self, state: TrainState) -> None:
        """Save the state if it is time, then let the user stop the run; all processes at the same step."""
        asked = 0
        try:
            self.watch.step(state)
        except Interrupted as exc:
            asked = exc.exit_code
        save, stop = self.votes.cast(int(self.checkpoints.due(state)), asked)
        if save:
            self.checkpoints.write(state)
        if stop:
            raise Terminated if stop == EXIT_TERMINATED else Interrupted


def train_and_finish(job: Job) -> Run:
    """Train to the end, and measure and record what came of it.

    Raises:
        Interrupted: asked to stop; the state is saved.
        TrainingFailed: it cannot go on; the last good state is saved.
        Elsewhere: the same, in another process than the first.
    """
    config, world = job.resolved.config, job.plan.world
    make = functools.partial(make_trackers, job.catalogue, config.trackers, config.tracker_options)
    trackers = make(job.watch.note) if world.first else Trackers({}, job.watch.note)
    trackers.start(job.run.path, config.model_dump(mode="json"))
    metrics: dict[str, Any] = {}
    try:
        for result in _train(job):
            job.watch.epoch(result)
            trackers.epoch(result.to_json())
        # The others wait, since NCCL wants a group left by all its processes within the time it allows for a message.
        world.by_first(lambda: _finish(job))
        if world.first:
            metrics = job.run.record().metrics
    except (Interrupted, TrainingFailed) as exc:
        # All processes stop for the same reason, and one tells it.
        if not world.first:
            raise Elsewhere(exc.exit_code) from None
        if isinstance(exc, TrainingFailed):
            raise
        raise type(exc)(f"stopped; {how_to_go_on(job.run, world)}") from None
    except Exception as exc:
        tell_if_memory_ran_out(exc, job.run, job.state, job.plan)
        raise
    finally:
        trackers.end(metrics)
    return job.run


def _train(job: Job) -> Iterator[EpochResult]:
    """Yield each epoch once it is saved; where memory runs out go on with smaller batches."""
    while True:
        try:
            yield from _epochs(job)
            _blend(job)
            return
        except RuntimeError as exc:
            if not fills_card(exc):
                raise
            if not job.plan.world.alone:
                raise OptionInvalid(_out_of_memory(job)) from exc
        # Out here, since in the handler the error holds on to the tensors of the step that failed.
        _take_less_memory(job)


def _out_of_memory(job: Job) -> str:
    """Tell what to do: the other processes are in the middle of a step, and cannot go back to another one."""
    images, size = job.parts.loaders.train.batch_size, job.plan.world.size
    return (
        f"out of memory with {images // size} images a batch in each of {size} processes; train anew with "
        f"--batch-size {images // 2} --accumulate {2 * job.resolved.config.accumulate}, or with --fsdp"
    )


def _take_less_memory(job: Job) -> None:
    """Go back to the last complete state, with half the images a batch and twice the batches a step."""
    was = job.parts.loaders.train.batch_size
    job.resolved, job.parts = halved(job.resolved, job.parts)
    config, now = job.resolved.config, job.parts.loaders.train.batch_size
    job.parts.backbone.requires_grad_(True).zero_grad(set_to_none=True)
    job.state, job.plan = set_up(job.parts, config, job.plan.world)
    job.state.load(moved(read_checkpoint(job.run, job.watch.note), was, now))
    job.run.restore_metrics(job.state.history, job.state.epoch)
    # What it says of the run is out of date.
    del job.checkpoints
    job.checkpoints.write(job.state)
    torch.cuda.empty_cache()
    job.watch.note(
        f"out of memory with {was} images a batch; going on in epoch {job.state.epoch + 1} with {now}, "
        f"and {config.accumulate} batches for each step of the optimizer"
    )


def _epochs(job: Job) -> Iterator[EpochResult]:
    """Yield each epoch once it is saved; save the state as well when asked to stop."""
    state, plan, loaders = job.state, job.plan, job.parts.loaders
    job.watch.begin(state, plan.epochs, plan.steps_per_epoch, loaders.train.batch_size)
    try:
        for result in fit(state, loaders, plan, job.after_step):
            _save_epoch(job, result)
            job.parts.material.keep(job.watch)
            yield result
    except Interrupted:
        job.checkpoints.write(state)
        raise


def _blend(job: Job) -> None:
    """Keep weights on the way from the fitted classifier to the last epoch where no epoch is clearly better."""
    state = job.state
    blend = best_blend(state, job.parts.loaders, job.plan, lambda: job.after_step(state))
    if blend is None:
        return
    if job.plan.world.first:
        save_weights(job.run.best_file, plain_weights(blend.weights))
    state.blend, state.best_score, state.best_loss = blend.share, blend.score, blend.loss
    job.watch.note(
        f"the weights {blend.share:.0%} of the way from the fitted classifier to the last epoch are kept: on the val "
        "images no epoch is better by more than one standard error"
    )


def _save_epoch(job: Job, result: EpochResult) -> None:
    """Weights first, the line second, the checkpoint last: whatever a kill leaves, a resume writes the same again."""
    state, world = job.state, job.plan.world
    best = plain_weights(state.replica.state_of(state.weights_to_ship())) if result.best else {}
    line = {name: value for name, value in result.to_json().items() if name not in TIMED}
    state.history.append(line)
    broken = job.parts.loaders.train.faults.found
    for found in world.gathered(dict(broken)):
        broken.update(found)
    if world.first:
        if result.best:
            save_weights(job.run.best_file, best)
        job.run.add_metrics(line)
    job.checkpoints.write(state)


def _finish(job: Job) -> None:
    if job.state.best_epoch == 0 and not job.state.blend:
        job.watch.note(
            "no epoch was better on the val images than the classifier that was fitted before the first: that one is "
            "kept, and the backbone as it came"
        )
    parts = replace(job.parts, material=job.parts.material.settled())
    if not job.plan.world.alone:
        # In one piece, with plain norms.
        backbone = fresh_backbone(job.catalogue, job.resolved.config, len(parts.data.classes))
        parts = replace(parts, backbone=backbone)
    finish(
        job.run, job.resolved, parts, job.state, job.plan.task.watched, lambda done, total: job.watch.step(job.state)
    )
