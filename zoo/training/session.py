"""A run from options on: started, or gone on with; names are checked first, then data and model are found."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from zoo.catalogue.made.augmentation import augmentation_maker
from zoo.catalogue.made.tracker import check_trackers
from zoo.errors import (
    CheckpointInvalid,
    DatasetInvalid,
    OptionInvalid,
    first_line,
)
from zoo.records.config import RESUME_MAY_CHANGE, Resolved, TrainConfig
from zoo.records.find import refuse_taken
from zoo.records.run import Run
from zoo.records.versions import changed_versions
from zoo.training.assemble import set_up
from zoo.training.checkpoint import About, read_checkpoint
from zoo.training.job import Job, how_to_go_on, locked, train_and_finish
from zoo.training.learn.mix import mixes, refuse_odd_batches
from zoo.training.learn.plan import check_plan
from zoo.training.learn.qat import check_qat
from zoo.training.learn.teacher import check_same_teacher, check_teacher
from zoo.training.learn.weighting import check_weights
from zoo.training.machine.choose import Chosen, choose
from zoo.training.machine.replica import check_replica
from zoo.training.machine.world import ALONE, World, peers_watched, share_of_batch
from zoo.training.parent import check_parent
from zoo.training.parts import Parts, find_parts, find_plugins
from zoo.training.settle import settle
from zoo.training.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from zoo.catalogue import Catalogue
    from zoo.contracts.plugins import Dataset


def start_run(
    catalogue: Catalogue,
    resolved: Resolved,
    path: Path,
    watch: Watch | None = None,
    world: World = ALONE,
    *,
    dataset: Dataset | None = None,
) -> Run:
    """Train a new run in the folder `path`.

    Args:
        catalogue: The registry and the plugins.
        resolved: The options.
        path: Of the run, the same in all processes; only the first one reads and writes it.
        watch: Hears of it.
        world: The processes that train it together, each of which calls this.
        dataset: What the options name, where it was opened already.

    Raises:
        RunInvalid: `path` already holds something.
        ZooError: whatever is wrong with the names, options, data or machine; then nothing was written.
        Interrupted: asked to stop; the state is saved and `resume_run` goes on.
        Elsewhere: in another process than the first, which says what went wrong.
    """
    watch, config = watch or Watch(), resolved.config
    with peers_watched(world, how_to_go_on(Run(path), world)):
        world.together(lambda: check_names(catalogue, config, world))
        world.by_first(lambda: refuse_taken(path))
        parts = world.in_turn(lambda: find_parts(catalogue, config, choose(config, world), watch, dataset))
        parts = _shared(parts, config, world)
        chosen = world.by_first(lambda: settle(parts, config, watch.note))
        images = world.together(lambda: share_of_batch(world, chosen.batch_size, pairs=mixes(config)))
        if images < chosen.batch_size:
            watch.note(f"{images} images a batch, the most below {chosen.batch_size} that {world.size} processes share")
        parts = parts.with_chosen(replace(chosen, batch_size=images))
        state, plan = world.together(lambda: set_up(parts, config, world))
        # Finding everything may have taken minutes.
        world.by_first(lambda: refuse_taken(path))
        run = Run(path)
        with locked(run, world):
            job = Job(catalogue, run, resolved, parts, state, plan, watch)
            job.checkpoints.write(state)
            return train_and_finish(job)


def resume_run(
    catalogue: Catalogue,
    run: Run,
    change: Callable[[TrainConfig], TrainConfig],
    watch: Watch | None = None,
    world: World = ALONE,
) -> Run:
    """Go on with an unfinished run, to the same end as if it had never stopped.

    Args:
        catalogue: The registry and the plugins.
        run: The folder with `last.ckpt`.
        change: Takes the saved configuration and returns it with what the user asked to change.
        watch: Hears of it.
        world: The processes that go on with it together; they need not be as many as began it.

    Raises:
        RunInvalid: another process is training it.
        CheckpointInvalid: no checkpoint, or one that is not ours.
        DatasetInvalid: the data is not what it was.
    """
    watch = watch or Watch()
    with peers_watched(world, how_to_go_on(run, world)):
        world.by_first(lambda: _refuse_missing(run.path))
        with locked(run, world):
            return train_and_finish(_resumed(catalogue, run, change, watch, world))


def _resumed(
    catalogue: Catalogue, run: Run, change: Callable[[TrainConfig], TrainConfig], watch: Watch, world: World
) -> Job:
    # Sent to the others, whose machines need not see the folder.
    payload = world.by_first(lambda: read_checkpoint(run, watch.note))
    about = About.of(payload)
    catalogue = catalogue.preferring(about.plugins)
    config = world.together(lambda: change(TrainConfig.model_validate(about.config)))
    origins = dict(about.origins)
    origins.update({name: "resume" for name in RESUME_MAY_CHANGE if getattr(config, name) != about.config.get(name)})
    world.together(lambda: check_same_teacher(config, about.teacher))
    # What the backbone began with and what classes weigh stands in the checkpoint; their files may be gone.
    rest = config.model_copy(update={"pretrained": False, "weights": "", "parent": "", "class_weights": ""})
    saved = Chosen(**{"split_rule": "rank", "batch_size": config.batch_size, **about.chosen})
    chosen = world.together(lambda: _moved(saved, config, world))
    parts = world.in_turn(lambda: find_parts(catalogue, rest, chosen, watch))
    parts = _shared(parts, config, world)
    parts = replace(parts, weights=about.class_weights, parent=about.parent)
    parts.loaders.train.faults.found.update(about.broken)
    world.together(lambda: _refuse_other_data(parts, about.fingerprint, run))
    for note in changed_versions(about.versions, parts.versions):
        watch.note(note)
    if world.size != (before := about.chosen.get("processes", 1)):
        watch.note(f"{world.size} processes go on with what {before} began: the same up to rounding, not to the bit")
    state, plan = world.together(lambda: set_up(parts, config, world))
    try:
        state.load(payload)
    except (KeyError, RuntimeError, ValueError) as exc:
        raise CheckpointInvalid(f"{run.checkpoint_file} does not fit this run: {first_line(exc)}") from exc
    world.by_first(lambda: run.restore_metrics(state.history, state.epoch))
    watch.note(f"resuming {run.path} in epoch {state.epoch + 1}, step {state.step}")
    return Job(catalogue, run, Resolved(config=config, origins=origins), parts, state, plan, watch)


def _refuse_other_data(parts: Parts, fingerprint: str, run: Run) -> None:
    if parts.data.fingerprint != fingerprint:
        raise DatasetInvalid(f"the dataset has changed since {run.path} began; restore it, or train anew")


def _refuse_missing(path: Path) -> None:
    if not path.is_dir():
        raise CheckpointInvalid(f"{path}: no such run; `zoo list runs` shows what there is")


def _shared(parts: Parts, config: TrainConfig, world: World) -> Parts:
    """Return the share of this process, once all have found the same."""
    found = world.gathered((parts.data.fingerprint, parts.chosen.cache, parts.chosen.split_rule))
    world.by_first(lambda: _refuse_differences(found))
    return replace(parts, material=parts.material.shared_by(world, config.workers))


def _refuse_differences(found: Sequence[tuple[object, ...]]) -> None:
    if len(set(found)) > 1:
        what = "other images" if len({fingerprint for fingerprint, *_ in found}) > 1 else "another cache"
        odd = next(rank for rank, one in enumerate(found) if one != found[0])
        raise DatasetInvalid(
            f"process {odd} of {len(found)} has {what} than the first; give all the same files, and --cache off or disk"
        )


def _moved(chosen: Chosen, config: TrainConfig, world: World) -> Chosen:
    """Return what the run chose, for these processes.

    Raises:
        OptionInvalid: they cannot share its batches evenly.
    """
    if share_of_batch(world, chosen.batch_size, pairs=mixes(config)) != chosen.batch_size:
        raise OptionInvalid(
            f"{world.size} processes cannot share this run's batches of {chosen.batch_size} images evenly; "
            "start another number of them"
        )
    return replace(chosen, device=world.device(chosen.device), processes=world.size)


def check_names(catalogue: Catalogue, config: TrainConfig, world: World = ALONE) -> None:
    """Raise for any unknown name or ill-typed option, before anything is prepared or written."""
    check_replica(config, world)
    find_plugins(catalogue, config)
    augmentation_maker(catalogue, config.augment, config.augment_options, (32, 32))()
    check_weights(config.class_weights)
    refuse_odd_batches(config, config.batch_size)
    check_plan(config)
    check_teacher(catalogue, config)
    check_parent(config)
    check_qat(config)
    for make in check_trackers(catalogue, config.trackers, config.tracker_options).values():
        make()
