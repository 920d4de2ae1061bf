"""What `zoo train` does once its options are read: start a run or go on with one, here or in several processes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.cli.launch import check_devices, launch
from zoo.errors import OptionInvalid

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zoo.catalogue import Catalogue
    from zoo.records.config import TrainConfig
    from zoo.records.layers import Resolved
    from zoo.records.run import Run
    from zoo.training.machine.world import World
    from zoo.training.watch import Watch


@dataclass(frozen=True, kw_only=True)
class Order:
    """What the command line asked for."""

    catalogue: Catalogue
    given: dict[str, Any]
    """Options of training that it named, paths among them made absolute."""
    resolve: Callable[[], Resolved]
    """Lays them over recipe and defaults."""
    name: str | None
    root: Path
    """Where runs are."""
    resume: bool

    def path(self, config: TrainConfig) -> Path:
        """Return the folder of a new run."""
        from zoo.catalogue.made.dataset import short_name
        from zoo.records.find import default_name

        return self.root / (self.name or default_name(config.model, short_name(config.dataset)))

    def change(self, saved: TrainConfig) -> TrainConfig:
        """Return what a run goes on with."""
        from zoo.records.layers import changed_on_resume

        return changed_on_resume(saved, self.given)


def train(order: Order) -> Run | None:
    """Train in this process, perhaps beside others that were started with it; None in all but the first."""
    from zoo.cli.progress import TrainProgress
    from zoo.training.machine.world import joined

    with joined() as world:
        with TrainProgress(quiet=not world.first) as watch:
            run = _resume(order, watch, world) if order.resume else _start(order, watch, world)
        return run if world.first else None


def train_on(devices: int, order: Order) -> None:
    """Train in several processes on this machine; what is wrong with the options is told before they start.

    Raises:
        Exit: at their end.
    """
    from zoo.records.find import find_unfinished
    from zoo.training.machine.world import World
    from zoo.training.session import check_names, refuse_taken

    if order.resume:
        run = find_unfinished(order.name, order.root)
        path, config = run.path, order.change(_saved(run))
    else:
        config = order.resolve().config
        path = order.path(config)
        check_names(order.catalogue, config, World(size=devices))
        refuse_taken(path)
    check_devices(devices, config)
    launch(devices, path, named=order.name is not None)


def _start(order: Order, watch: Watch, world: World) -> Run:
    from zoo.records.run import Run
    from zoo.training.folds.work import start_folds
    from zoo.training.session import start_run

    resolved = world.together(order.resolve)
    config = resolved.config
    world.by_first(lambda: _refuse_nameless(order))
    path = world.by_first(lambda: order.path(config))
    # torchrun starts its processes anew with the same command.
    if world.by_first(lambda: "TORCHELASTIC_RUN_ID" in os.environ and Run(path).resumable):
        return _go_on(Run(path), order, watch, world)
    if config.folds and not config.fold:
        return start_folds(order.catalogue, resolved, path, watch, world)
    return start_run(order.catalogue, resolved, path, watch, world)


def _resume(order: Order, watch: Watch, world: World) -> Run:
    from zoo.records.find import find_unfinished
    from zoo.records.run import Run

    return _go_on(Run(world.by_first(lambda: find_unfinished(order.name, order.root).path)), order, watch, world)


def _go_on(run: Run, order: Order, watch: Watch, world: World) -> Run:
    from zoo.training.folds.work import resume_folds
    from zoo.training.session import resume_run

    go_on = resume_folds if world.by_first(lambda: run.holds_folds) else resume_run
    return go_on(order.catalogue, run, order.change, watch, world)


def _refuse_nameless(order: Order) -> None:
    if not order.name and int(os.environ.get("TORCHELASTIC_MAX_RESTARTS") or 0):
        raise OptionInvalid("torchrun --max-restarts starts training anew; give --name, so that it finds its run again")


def _saved(run: Run) -> TrainConfig:
    from zoo.records.config import TrainConfig
    from zoo.training.checkpoint import About, read_checkpoint
    from zoo.training.folds.work import read_plan

    if run.holds_folds:
        return read_plan(run).config
    return TrainConfig.model_validate(About.of(read_checkpoint(run)).config)
