"""A run from options to `run.json`: names checked first, then data, model, the loop, and the final measure."""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from zoo.config import RESUME_MAY_CHANGE, Resolved, TrainConfig
from zoo.data.augment import augmentation_maker
from zoo.data.source import locate
from zoo.errors import (
    CheckpointInvalid,
    DatasetInvalid,
    Interrupted,
    RunInvalid,
    first_line,
)
from zoo.run import Run
from zoo.tracking import check_trackers, make_trackers
from zoo.train.checkpoint import Checkpoints, read_checkpoint
from zoo.train.choose import Chosen, choose
from zoo.train.compiled import compiled
from zoo.train.finish import finish
from zoo.train.freeze import check_classifier
from zoo.train.less_memory import halved, moved
from zoo.train.loop import EpochResult, fit
from zoo.train.mix import refuse_odd_batches
from zoo.train.optimizer import make_optimizer
from zoo.train.parts import Parts, find_parts
from zoo.train.plan import Plan, check_plan, make_plan
from zoo.train.resize import check_growth, make_growth
from zoo.train.settle import settle
from zoo.train.state import TrainState, make_state
from zoo.train.task import make_task
from zoo.train.watch import Watch
from zoo.train.weighting import check_weights
from zoo.versions import changed_versions
from zoo.weights import save_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from zoo.catalogue import Catalogue

TIMED = frozenset({"seconds", "images_per_second"})
"""What differs each time; metrics.jsonl is the same to the byte however often a run was stopped."""


def start_run(catalogue: Catalogue, resolved: Resolved, path: Path, watch: Watch | None = None) -> Run:
    """Train a new run in the folder `path`.

    Raises:
        RunInvalid: `path` already holds something.
        ZooError: whatever is wrong with the names, options, data or machine; then nothing was written.
        Interrupted: asked to stop; the state is saved and `resume_run` goes on.
    """
    _refuse_taken(path)
    watch = watch or Watch()
    check_names(catalogue, resolved.config)
    parts = find_parts(catalogue, resolved.config, choose(resolved.config), watch)
    parts = settle(parts, resolved.config, watch.note)
    state, plan = _set_up(parts, resolved.config)
    # Finding everything may have taken minutes.
    _refuse_taken(path)
    run = Run(path)
    with run.locked():
        job = _Job(catalogue, run, resolved, parts, state, plan, watch)
        job.checkpoints.write(state)
        return _train_and_finish(job)


def resume_run(
    catalogue: Catalogue, run: Run, change: Callable[[TrainConfig], TrainConfig], watch: Watch | None = None
) -> Run:
    """Go on with an unfinished run, to the same end as if it had never stopped.

    Args:
        catalogue: The registry and the plugins.
        run: The folder with `last.ckpt`.
        change: Takes the saved configuration and returns it with what the user asked to change.
        watch: Hears of it.

    Raises:
        RunInvalid: another process is training it.
        CheckpointInvalid: no checkpoint, or one that is not ours.
        DatasetInvalid: the data is not what it was.
    """
    watch = watch or Watch()
    if not run.path.is_dir():
        raise CheckpointInvalid(f"{run.path}: no such run; `zoo list runs` shows what there is")
    with run.locked():
        return _train_and_finish(_resumed(catalogue, run, change, watch))


def _resumed(catalogue: Catalogue, run: Run, change: Callable[[TrainConfig], TrainConfig], watch: Watch) -> _Job:
    payload = read_checkpoint(run, watch.note)
    about = payload["about"]
    catalogue = catalogue.preferring(about.get("plugins", {}))
    config = change(TrainConfig.model_validate(about["config"]))
    origins = dict(about["origins"])
    origins.update({name: "resume" for name in RESUME_MAY_CHANGE if getattr(config, name) != about["config"].get(name)})
    # What the backbone began with and what classes weigh stands in the checkpoint; their files may be gone.
    rest = config.model_copy(update={"pretrained": False, "weights": "", "class_weights": ""})
    chosen = Chosen(**{"split_rule": "rank", "batch_size": config.batch_size, **about["chosen"]})
    parts = find_parts(catalogue, rest, chosen, watch)
    parts = replace(parts, weights=about.get("class_weights", {}))
    parts.loaders.train.faults.found.update(about.get("broken", {}))
    if parts.data.fingerprint != about["fingerprint"]:
        raise DatasetInvalid(
            f"dataset {config.dataset!r} has changed since {run.path} began; restore it, or train anew"
        )
    for note in changed_versions(about.get("versions", {}), parts.versions):
        watch.note(note)
    state, plan = _set_up(parts, config)
    try:
        state.load(payload)
    except (KeyError, RuntimeError, ValueError) as exc:
        raise CheckpointInvalid(f"{run.checkpoint_file} does not fit this run: {first_line(exc)}") from exc
    run.restore_metrics(state.history, state.epoch)
    watch.note(f"resuming {run.path} in epoch {state.epoch + 1}, step {state.step}")
    return _Job(catalogue, run, Resolved(config=config, origins=origins), parts, state, plan, watch)


def _refuse_taken(path: Path) -> None:
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RunInvalid(
            f"{path} already exists; choose another --name, or go on with `zoo train --resume --name {path.name}`"
        )


def check_names(catalogue: Catalogue, config: TrainConfig) -> None:
    """Raise for any unknown name or ill-typed option, before anything is prepared or written."""
    catalogue.backbone(config.model)
    augmentation_maker(catalogue, config.augment, config.augment_options, (32, 32))()
    locate(catalogue, config.dataset, config.dataset_options)
    check_weights(config.class_weights)
    refuse_odd_batches(config, config.batch_size)
    check_plan(config)
    for make in check_trackers(catalogue, config.trackers, config.tracker_options).values():
        make()


def _set_up(parts: Parts, config: TrainConfig) -> tuple[TrainState, Plan]:
    """Make the state of a run that has not begun; a saved one is loaded into it afterwards."""
    layout = torch.channels_last if parts.chosen.layout == "nhwc" else torch.contiguous_format
    model = parts.backbone.to(parts.chosen.device).to(memory_format=layout)
    check_classifier(model, config)
    check_growth(model, make_growth(config, parts.preprocess.size))
    optimizer = make_optimizer(model, config)
    state = make_state(model, optimizer, ema_decay=config.ema_decay, fp16=parts.chosen.precision == "fp16")
    if config.compile:
        state.forward = compiled(model, parts.chosen.device)
    task = make_task(
        len(parts.data.classes),
        multi_label=parts.data.multi_label,
        smoothing=config.label_smoothing,
        weights=torch.tensor(list(parts.weights.values())) if parts.weights else None,
        loss=config.loss,
        monitor=config.monitor,
    )
    return state, make_plan(config, parts.chosen, parts.preprocess, optimizer, len(parts.loaders.train), task)


@dataclass
class _Job:
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
        about = {
            "config": self.resolved.config.model_dump(mode="json"),
            "origins": self.resolved.origins,
            "chosen": asdict(parts.chosen),
            "fingerprint": parts.data.fingerprint,
            "classes": list(parts.data.classes),
            "class_weights": parts.weights,
            "versions": parts.versions,
            # Not a copy: what turns out to be broken later is saved as well.
            "broken": parts.loaders.train.faults.found,
            "plugins": parts.owners,
        }
        return Checkpoints(self.run, self.resolved.config, about)

    def after_step(self, state: TrainState) -> None:
        """Save the state if it is time, then let the user stop the run."""
        self.checkpoints.after_step(state)
        self.watch.step(state)


def _train_and_finish(job: _Job) -> Run:
    config = job.resolved.config
    trackers = make_trackers(job.catalogue, config.trackers, config.tracker_options, job.watch.note)
    trackers.start(job.run.path, config.model_dump(mode="json"))
    metrics: dict[str, Any] = {}
    try:
        for result in _train(job):
            job.watch.epoch(result)
            trackers.epoch(result.to_json())
        _finish(job)
        metrics = job.run.record().metrics
    except Interrupted as exc:
        raise type(exc)(f"stopped; go on with `zoo train --resume --name {job.run.path.name}`") from None
    finally:
        trackers.end(metrics)
    return job.run


def _train(job: _Job) -> Iterator[EpochResult]:
    """Yield each epoch once it is saved; where memory runs out go on with smaller batches."""
    while True:
        try:
            yield from _epochs(job)
            return
        except torch.OutOfMemoryError:
            pass
        # Out here, since in the handler the error holds on to the tensors of the step that failed.
        _take_less_memory(job)


def _take_less_memory(job: _Job) -> None:
    """Go back to the last complete state, with half the images a batch and twice the batches a step."""
    was = job.parts.loaders.train.batch_size
    job.resolved, job.parts = halved(job.resolved, job.parts)
    config, now = job.resolved.config, job.parts.loaders.train.batch_size
    job.parts.backbone.requires_grad_(True).zero_grad(set_to_none=True)
    job.state, job.plan = _set_up(job.parts, config)
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


def _epochs(job: _Job) -> Iterator[EpochResult]:
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


def _save_epoch(job: _Job, result: EpochResult) -> None:
    """Weights first, the line second, the checkpoint last: whatever a kill leaves, a resume writes the same again."""
    state = job.state
    if result.best:
        save_weights(job.run.best_file, state.weights_to_ship().state_dict())
    line = {name: value for name, value in result.to_json().items() if name not in TIMED}
    state.history.append(line)
    job.run.add_metrics(line)
    job.checkpoints.write(state)


def _finish(job: _Job) -> None:
    parts = replace(job.parts, material=job.parts.material.settled())
    finish(
        job.run, job.resolved, parts, job.state, job.plan.task.watched, lambda done, total: job.watch.step(job.state)
    )
