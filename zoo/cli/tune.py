"""`zoo tune`: search training options, and write the best as a recipe."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.completion import names
from zoo.cli.flags import with_training_flags
from zoo.cli.options import RUN, SEARCH, Config, Json, Recipe, Runs, Set
from zoo.records.rows import Group

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from zoo.records.config import Resolved
    from zoo.tune.outcome import TuneResult
    from zoo.tune.plan import TunePlan

INSTALL = 'zoo tune needs the package optuna; run `pip install "edgezoo[tune]"`'


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The command, as it can be sent to another process."""

    registry: Path | None
    folder: Path
    given: dict[str, Any]
    """What all trials share."""
    recipe: str | None
    config: Path | None
    search: tuple[str, ...]
    objective: tuple[str, ...]
    trials: int
    storage: str
    pruner: str
    jobs: int
    seed: int


Model = Annotated[str, typer.Argument(help="A model: `zoo list models`.", autocompletion=names("model"))]
Dataset = Annotated[
    str,
    typer.Option(
        help="A dataset's name, or a folder with a sub-folder a class.",
        autocompletion=names("dataset"),
        rich_help_panel=Group.data.value,
    ),
]
Search = Annotated[
    list[str] | None,
    typer.Option(
        metavar="OPTION=WHERE",
        help="OPTION=LOW..HIGH, with :log or without, or OPTION=A,B,C: any training option.",
        rich_help_panel=SEARCH,
    ),
]
Trials = Annotated[
    int,
    typer.Option(
        min=1, metavar="N", help="How many; the same command goes on until they are done.", rich_help_panel=SEARCH
    ),
]
Objective = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FIGURE",
        help="val_top1 [default], val_loss or another figure; latency (ms), size (MB) of the fp32 ONNX; may repeat.",
        rich_help_panel=SEARCH,
    ),
]
Pruner = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Who stops trials that fall behind: median, hyperband, none; auto is median.",
        rich_help_panel=SEARCH,
    ),
]
Jobs = Annotated[
    int,
    typer.Option(
        min=1, max=256, metavar="N", help="Trials at the same time, each in a process.", rich_help_panel=SEARCH
    ),
]
Storage = Annotated[
    str,
    typer.Option(
        metavar="FILE|URL",
        help="A SQLite file or a database's address, for many machines [default: study.db of the study].",
        rich_help_panel=SEARCH,
    ),
]
Seed = Annotated[
    int | None, typer.Option(metavar="N", help="Of the search, and of every trial's run.", rich_help_panel=SEARCH)
]
Name = Annotated[
    str | None, typer.Option(metavar="NAME", help="The study's name [default: MODEL-DATASET].", rich_help_panel=RUN)
]


@with_training_flags
def tune_cli(
    ctx: typer.Context,
    given: dict[str, Any],
    model: Model,
    dataset: Dataset,
    search: Search = None,
    trials: Trials = 20,
    objective: Objective = None,
    pruner: Pruner = "auto",
    jobs: Jobs = 1,
    storage: Storage = "",
    seed: Seed = None,
    name: Name = None,
    runs: Runs = None,
    recipe: Recipe = None,
    config: Config = None,
    set_: Set = None,
    json: Json = False,
) -> None:
    """Search training options: each trial is a run, and the best becomes a recipe for `zoo train --recipe`.

    What is not searched is the same in all trials, and said as for `zoo train`.
    """
    from zoo.catalogue.options import parse_pairs
    from zoo.disk.home import runs_root

    same = {"model": model, "dataset": dataset, **given, **parse_pairs(set_ or [], "--set")}
    asked = Asked(
        registry=ctx.obj.registry,
        folder=runs_root(runs) / f"tune-{name or _default_name(model, dataset)}",
        given=same if seed is None else {**same, "seed": seed},
        recipe=recipe,
        config=config,
        search=tuple(search or ()),
        objective=tuple(objective or ()),
        trials=trials,
        storage=storage,
        pruner=pruner,
        jobs=jobs,
        seed=seed or 0,
    )
    _print_result(_tune(asked), model, dataset, json=json)


def _default_name(model: str, dataset: str) -> str:
    """Without the time: the same command goes on with the same study."""
    import re

    from zoo.catalogue.made.dataset import short_name

    return re.sub(r"[^\w.+-]+", "_", f"{model}-{short_name(dataset)}")


def _tune(asked: Asked) -> TuneResult:
    from zoo.contracts.progress import note

    _check(asked)
    plan = _plan(asked)
    plan.check()
    from zoo.tune.result import conclude
    from zoo.tune.study import open_study, work

    study = open_study(plan)
    with _helpers(asked):
        work(plan, study, note)
    return conclude(plan, study)


def _check(asked: Asked) -> None:
    """Raise for what needs no PyTorch to be wrong, in what all trials share."""
    from zoo.catalogue import Catalogue
    from zoo.records.layers import merged, option_layers
    from zoo.training.early import check_early
    from zoo.tune.objective import parse_objectives
    from zoo.tune.space import parse_search

    parse_objectives(asked.objective)
    parse_search(asked.search)
    catalogue = Catalogue.read(asked.registry)
    values, _ = merged(option_layers(catalogue, asked.given, asked.recipe, asked.config, asked.folder.parent))
    check_early(catalogue, values)


def _plan(asked: Asked) -> TunePlan:
    import importlib.util
    import os

    from zoo.catalogue import Catalogue
    from zoo.errors import EnvironmentBroken, OptionInvalid
    from zoo.records.layers import resolve_options
    from zoo.training.progress import TrainProgress
    from zoo.tune.objective import parse_objectives
    from zoo.tune.plan import PRUNERS, TunePlan
    from zoo.tune.space import parse_search

    if asked.pruner not in PRUNERS:
        raise OptionInvalid(f"--pruner {asked.pruner!r} is unknown; write one of {', '.join(PRUNERS)}")
    objectives = parse_objectives(asked.objective)
    if len(objectives) > 1 and asked.pruner not in ("auto", "none"):
        raise OptionInvalid(f"--pruner {asked.pruner} judges by one figure; name one --objective, or leave it out")
    space = parse_search(asked.search)
    if importlib.util.find_spec("optuna") is None:
        raise EnvironmentBroken(INSTALL)
    catalogue = Catalogue.read(asked.registry)
    # Workers that each take all processors only wait for each other.
    shared = {"threads": max((os.cpu_count() or 1) // asked.jobs, 1)} if asked.jobs > 1 else {}

    def resolve(values: Mapping[str, Any]) -> Resolved:
        given = {**shared, **asked.given, **values}
        return resolve_options(catalogue, given, asked.recipe, asked.config, asked.folder.parent)

    return TunePlan(
        catalogue=catalogue,
        folder=asked.folder,
        space=space,
        objectives=objectives,
        trials=asked.trials,
        resolve=resolve,
        make_watch=TrainProgress,
        storage=asked.storage,
        seed=asked.seed,
        pruner=asked.pruner,
        jobs=asked.jobs,
    )


@contextlib.contextmanager
def _helpers(asked: Asked) -> Iterator[None]:
    """Have other processes work on the same study; they are gone afterwards."""
    import multiprocessing

    # Not forked: PyTorch's threads do not survive that.
    context = multiprocessing.get_context("spawn")
    helpers = [context.Process(target=_help, args=(asked,), daemon=True) for _ in range(asked.jobs - 1)]
    for helper in helpers:
        helper.start()
    try:
        yield
    except BaseException:
        for helper in helpers:
            helper.terminate()
        raise
    finally:
        for helper in helpers:
            helper.join()


def _help(asked: Asked) -> None:
    """Work on the study of another process, quietly; runs in a process of its own."""
    import dataclasses
    import sys

    from zoo.errors import ZooError
    from zoo.training.watch import Watch
    from zoo.tune.study import open_study, work

    plan = dataclasses.replace(_plan(asked), make_watch=lambda: contextlib.nullcontext(Watch()))
    try:
        work(plan, open_study(plan), lambda text: None)
    except (ZooError, KeyboardInterrupt) as exc:
        # Whatever stops one worker stops the one that tells it as well.
        sys.exit(getattr(exc, "exit_code", 1))


def _print_result(result: TuneResult, model: str, dataset: str, *, json: bool) -> None:
    from zoo.cli.output import print_json, print_table, stdout
    from zoo.tune.report import trial_table

    if json:
        print_json(result.to_json())
        return
    print_table(*trial_table(result))
    for objective, shares in result.importance.items():
        told = ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items())
        stdout().print(f"what mattered for {objective}: {told}")
    stdout().print(f"best of {len(result.trials)}: trial {result.best[0]}; the page is {result.folder / 'report.html'}")
    stdout().print(f"next: zoo train {model} --dataset {dataset} --recipe {result.recipe}")
