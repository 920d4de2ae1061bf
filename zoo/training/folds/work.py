"""Training every fold, each a run of its own: begun, gone on with after a stop, and held to be alike."""

from __future__ import annotations

import contextlib
import functools
import json
from typing import TYPE_CHECKING

from pydantic import ValidationError

from zoo.disk.files import write_json
from zoo.errors import Interrupted, OptionInvalid, RunInvalid
from zoo.records.config import Resolved, TrainConfig
from zoo.records.find import refuse_taken
from zoo.records.run import Run
from zoo.training.checkpoint import About, read_checkpoint
from zoo.training.folds.result import conclude
from zoo.training.job import how_to_go_on, locked
from zoo.training.less_memory import ORIGIN
from zoo.training.machine.world import ALONE, World, peers_watched
from zoo.training.session import check_names, resume_run, start_run
from zoo.training.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from zoo.catalogue import Catalogue
    from zoo.records.record import RunRecord

FREE = frozenset(
    {"fold", "dataset", "dataset_options", "workers", "threads", "device", "cache", "cache_limit"}
    | {"checkpoint_minutes", "checkpoint_steps", "trackers", "tracker_options", "license_allow"}
)
"""Options in which folds may differ: each may be trained on another machine. The images themselves are compared."""


def start_folds(
    catalogue: Catalogue, resolved: Resolved, path: Path, watch: Watch | None = None, world: World = ALONE
) -> Run:
    """Train a run for each fold, in folders of `path`, and write what they come to.

    Args:
        catalogue: The registry and the plugins.
        resolved: The options; `fold` is 0.
        path: The folder of all folds.
        watch: Hears of each.
        world: The processes that train each of them together.

    Raises:
        RunInvalid: `path` already holds something.
        ZooError: as `start_run` does; whatever the first fold meets before it begins leaves nothing behind.
        Interrupted: asked to stop; `resume_folds` goes on.
    """
    run = Run(path)
    with peers_watched(world, how_to_go_on(run, world)):
        world.together(lambda: check_names(catalogue, resolved.config, world))
        world.by_first(lambda: refuse_taken(path))
        with _begun(run, resolved) if world.first else contextlib.nullcontext():
            return _train_all(catalogue, run, resolved, lambda saved: saved, watch or Watch(), world)


def resume_folds(
    catalogue: Catalogue,
    run: Run,
    change: Callable[[TrainConfig], TrainConfig],
    watch: Watch | None = None,
    world: World = ALONE,
) -> Run:
    """Go on: finished folds stay, the one that was stopped ends in the same bits, the others are trained.

    Args:
        catalogue: The registry and the plugins.
        run: The folder of all folds; they may also have been trained alone, on other machines.
        change: Takes the saved configuration and returns it with what the user asked to change.
        watch: Hears of it.
        world: The processes that train each of them together.

    Raises:
        RunInvalid: another process is training them, or they are not alike.
        OptionInvalid: a change that would make the others unlike those that are finished.
        ZooError: as `start_run` and `resume_run` do.
    """
    with peers_watched(world, how_to_go_on(run, world)), locked(run, world):
        plan = world.by_first(lambda: _kept_plan(run))
        resolved = world.together(lambda: _changed(run, plan, change))
        return _train_all(catalogue, run, resolved, change, watch or Watch(), world)


def _changed(run: Run, plan: Resolved, change: Callable[[TrainConfig], TrainConfig]) -> Resolved:
    config = change(plan.config)
    for name in ("epochs", "patience"):
        was, now = getattr(plan.config, name), getattr(config, name)
        if was != now:
            raise OptionInvalid(
                f"the folds of {run.path} are compared, so all train alike: {name} was {was}, now {now}; "
                "leave it out, or train anew under another --name"
            )
    return Resolved(config=config, origins=plan.origins)


def _train_all(
    catalogue: Catalogue,
    run: Run,
    resolved: Resolved,
    change: Callable[[TrainConfig], TrainConfig],
    watch: Watch,
    world: World,
) -> Run:
    folds = resolved.config.folds
    records: list[RunRecord] = []
    for number in range(1, folds + 1):
        fold = run.fold(number)
        finished, begun = world.by_first(functools.partial(_state, fold))
        watch.note(f"fold {number} of {folds}{' is finished' if finished else ''}")
        try:
            if begun and not finished:
                resume_run(catalogue, fold, change, watch, world)
            elif not finished:
                start_run(catalogue, _of_fold(resolved, number), fold.path, watch, world)
        except Interrupted as exc:
            raise type(exc)(f"stopped in fold {number} of {folds}; {how_to_go_on(run, world)}") from None
        records.append(world.by_first(functools.partial(_alike, fold, records, resolved.config)))
    world.by_first(lambda: conclude(run, resolved.config, resolved.origins, records))
    return run


def _of_fold(resolved: Resolved, number: int) -> Resolved:
    config = resolved.config.model_copy(update={"fold": number})
    return Resolved(config=config, origins={**resolved.origins, "fold": "folds"})


def _state(fold: Run) -> tuple[bool, bool]:
    """Return whether a fold is finished, and whether it has begun."""
    finished, begun = fold.finished, fold.checkpoint_file.is_file()
    # What is left by a process that was killed before its first checkpoint; no user's file has such a name.
    for pattern in () if finished or begun else (".lock", ".last.ckpt.*"):
        for file in fold.path.glob(pattern):
            file.unlink()
    return finished, begun


def _alike(fold: Run, before: list[RunRecord], config: TrainConfig) -> RunRecord:
    """Return a finished fold's record.

    Raises:
        RunInvalid: it was trained with other options or images than the folds before it.
    """
    record = fold.record()
    found = TrainConfig.model_validate(record.config)
    unlike = [
        f"{name} was {getattr(found, name)!r}, not {getattr(config, name)!r}"
        for name in TrainConfig.model_fields
        if name not in FREE and getattr(found, name) != getattr(config, name) and record.origins.get(name) != ORIGIN
    ]
    if found.fold != len(before) + 1:
        unlike.append(f"fold was {found.fold}")
    if any(record.dataset_fingerprint != other.dataset_fingerprint for other in before):
        unlike.append("its images are not theirs")
    if unlike:
        raise RunInvalid(
            f"{fold.path} cannot be compared with the others: {', '.join(unlike)}; move it away and "
            f"`zoo train --resume --name {fold.path.absolute().parent.name}` trains it again"
        )
    return record


def read_plan(run: Run) -> Resolved:
    """Return what all folds share; of folds that were trained alone, what the first finished one says.

    Raises:
        RunInvalid: there is neither, or it is damaged.
    """
    if run.plan_file.is_file():
        try:
            return Resolved.model_validate(json.loads(run.plan_file.read_text()))
        except (OSError, ValueError, RecursionError) as exc:
            detail = exc.errors()[0]["msg"] if isinstance(exc, ValidationError) else str(exc)
            raise RunInvalid(f"{run.plan_file} is damaged: {detail}; train anew under another --name") from exc
    finished = next((fold for fold in run.folds() if fold.finished), None)
    if finished is None:
        raise RunInvalid(f"{run.path} holds neither plan.json nor a finished fold; go on with one fold by its own name")
    record = finished.record()
    config = TrainConfig.model_validate({**record.config, "fold": 0})
    return Resolved(config=config, origins={**record.origins, "fold": "default"})


def _kept_plan(run: Run) -> Resolved:
    plan = read_plan(run)
    if not run.plan_file.is_file():
        _write_plan(run, plan)
    return plan


def _write_plan(run: Run, plan: Resolved) -> None:
    write_json(run.plan_file, plan.model_dump(mode="json"))


@contextlib.contextmanager
def _begun(run: Run, resolved: Resolved) -> Iterator[None]:
    """Lock the folder and write the plan; leave neither if not even the first fold begins."""
    try:
        with run.locked():
            _write_plan(run, resolved)
            try:
                yield
            except BaseException:
                if not run.folds():
                    run.plan_file.unlink()
                raise
    except BaseException:
        # Only an empty one goes.
        with contextlib.suppress(OSError):
            run.path.rmdir()
        raise


def saved_config(run: Run) -> TrainConfig:
    """Return the options that an unfinished run, or one of several folds, began with."""
    if run.holds_folds:
        return read_plan(run).config
    return TrainConfig.model_validate(About.of(read_checkpoint(run)).config)
