"""`zoo.train`: options -> a finished run; whatever is wrong and needs no PyTorch to be seen is told before it loads."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.catalogue import opened
from zoo.contracts.words import checked
from zoo.disk.home import runs_root
from zoo.errors import EnvironmentBroken, OptionInvalid
from zoo.records.find import check_name, default_name, find_unfinished, refuse_taken
from zoo.records.layers import changed_on_resume, lasting, merged, option_layers, resolve_options, unknown_option
from zoo.records.options import training_options
from zoo.records.run import Run
from zoo.training.early import check_early, in_one_of_several

if TYPE_CHECKING:
    from zoo.catalogue import Catalogue
    from zoo.contracts.plugins import Dataset
    from zoo.contracts.progress import Progress
    from zoo.records.config import Resolved, TrainConfig
    from zoo.training.machine.world import World
    from zoo.training.watch import Watch


ALONE = threading.Lock()
"""Held while this process trains: PyTorch's random numbers and threads are the whole process's."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What was asked for."""

    catalogue: Catalogue
    given: dict[str, Any]
    """Options of training; paths among them mean the same from any folder where a run goes on."""
    recipe: str | None
    config: Path | None
    name: str | None
    root: Path
    """Where runs are."""
    resume: bool
    dataset: Dataset | None = None
    """Opened already."""

    @classmethod
    def of(
        cls,
        options: Mapping[str, Any],
        name: str | None,
        runs: str | Path | None,
        recipe: str | None,
        config: str | Path | None,
        catalogue: Catalogue,
        *,
        resume: bool,
    ) -> Order:
        """Take words as they were given; those that are None were not."""
        given = {key: _plain(value) for key, value in options.items() if value is not None}
        root = runs_root(runs)
        return cls(
            catalogue=catalogue,
            given={**given, **lasting(catalogue, given, root)} if resume else given,
            recipe=recipe,
            config=None if config is None else Path(config),
            name=name,
            root=root,
            resume=resume,
        )

    def resolve(self) -> Resolved:
        """Lay the options over recipe and defaults."""
        return resolve_options(self.catalogue, self.given, self.recipe, self.config, self.root)

    def path(self, config: TrainConfig) -> Path:
        """Return the folder of a new run."""
        from zoo.catalogue.made.dataset import short_name

        return self.root / (self.name or default_name(config.model, short_name(config.dataset)))

    def change(self, saved: TrainConfig) -> TrainConfig:
        """Return what a run goes on with."""
        return changed_on_resume(saved, self.given)

    def checked(self) -> Order:
        """Return the same, once all is checked that needs no PyTorch to be wrong."""
        if self.resume:
            find_unfinished(self.name, self.root)
            if self.recipe or self.config:
                told = f"recipe {self.recipe}" if self.recipe else f"options of {self.config}"
                raise OptionInvalid(f"a resumed run keeps its options; leave the {told} out, or train anew")
            return self
        if self.name is not None:
            check_name(self.name)
        values, _ = merged(option_layers(self.catalogue, self.given, self.recipe, self.config, self.root))
        dataset = check_early(self.catalogue, values)
        self.resolve()
        # torchrun starts its processes anew with the same command, and they find their run there.
        if self.name and "TORCHELASTIC_RUN_ID" not in os.environ:
            refuse_taken(self.root / self.name)
        return replace(self, dataset=dataset)


@checked
def train(
    model: str | None = None,
    dataset: str | Path | None = None,
    *,
    name: str | None = None,
    runs: str | Path | None = None,
    recipe: str | None = None,
    config: str | Path | None = None,
    resume: bool = False,
    progress: Progress = True,
    catalogue: Catalogue | str | Path | None = None,
    **options: Any,
) -> Run:
    """Fine-tune a model on a dataset, of one label an image or of several; return the finished run.

    Args:
        model: A name of `zoo.models()`.
        dataset: A name of `zoo.datasets()`, or a folder with a sub-folder a class.
        name: Of the run [default: MODEL-DATASET-TIME].
        runs: The folder of all runs [default: $ZOO_RUNS, else ./runs].
        recipe: A recipe of registry.toml, or a .toml file of one.
        config: A TOML file of training options.
        resume: Go on with the unfinished run of that name, or the one that was written last.
        progress: True shows bars and lines on stderr, or below the cell of a notebook; a function gets each line; False
            shows nothing. Ctrl-C saves the state and raises Interrupted.
        catalogue: A registry.toml to lay over the built-in one.
        options: Any option of training, by the names of docs/train.md: `epochs=5`, `lr=1e-4`.

    Raises:
        ZooError: whatever is wrong with names, options, data or machine, before anything is written.
        Interrupted: asked to stop; the state is saved.
    """
    for key in options.keys() - training_options().keys():
        raise OptionInvalid(unknown_option(key))
    asked = Order.of(
        {"model": model, "dataset": dataset, **options}, name, runs, recipe, config, opened(catalogue), resume=resume
    )
    # Whoever changes the current folder later still finds it.
    return Run(carry_out(asked, progress).path.absolute())


def carry_out(asked: Order, progress: Progress) -> Run:
    """Train as asked, perhaps beside other processes that were started with this one."""
    # Several processes check together below, so that one of them tells what is wrong.
    ready = asked if in_one_of_several() else asked.checked()
    if not ALONE.acquire(blocking=False):
        raise EnvironmentBroken(
            "another run is being trained in this process, and the two would share their random numbers; wait for it, "
            "or train in a process of its own"
        )
    try:
        return _carry_out(ready, progress)
    finally:
        ALONE.release()


def _carry_out(ready: Order, progress: Progress) -> Run:
    from zoo.training.machine.world import joined
    from zoo.training.progress import watching

    with joined() as world, watching(progress, quiet=not world.first) as watch:
        return (_resume if ready.resume else _start)(ready, watch, world)


def _plain(value: Any) -> Any:
    """Return paths and runs as the texts that a command line would have."""
    if isinstance(value, Run):
        return str(value.path)
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return str(value) if isinstance(value, Path) else value


def _start(asked: Order, watch: Watch, world: World) -> Run:
    from zoo.training.folds.work import start_folds
    from zoo.training.session import start_run

    resolved = world.together(asked.resolve)
    config = resolved.config
    world.by_first(lambda: _refuse_nameless(asked))
    path = world.by_first(lambda: asked.path(config))
    if world.by_first(lambda: "TORCHELASTIC_RUN_ID" in os.environ and Run(path).resumable):
        return _go_on(Run(path), asked, watch, world)
    if config.folds and not config.fold:
        return start_folds(asked.catalogue, resolved, path, watch, world)
    return start_run(asked.catalogue, resolved, path, watch, world, dataset=asked.dataset)


def _resume(asked: Order, watch: Watch, world: World) -> Run:
    return _go_on(Run(world.by_first(lambda: find_unfinished(asked.name, asked.root).path)), asked, watch, world)


def _go_on(run: Run, asked: Order, watch: Watch, world: World) -> Run:
    from zoo.training.folds.work import resume_folds
    from zoo.training.session import resume_run

    go_on = resume_folds if world.by_first(lambda: run.holds_folds) else resume_run
    return go_on(asked.catalogue, run, asked.change, watch, world)


def _refuse_nameless(asked: Order) -> None:
    if not asked.name and int(os.environ.get("TORCHELASTIC_MAX_RESTARTS") or 0):
        raise OptionInvalid("torchrun --max-restarts starts training anew; give --name, so that it finds its run again")
