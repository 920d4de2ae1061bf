"""`zoo tune`: search training options, and write the best as a recipe."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.completion import names
from zoo.cli.options import Json, Runs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from zoo.records.layers import Resolved
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


def tune_cli(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="A model: `zoo list models`.", autocompletion=names("model"))],
    dataset: Annotated[
        str,
        typer.Option(help="A dataset's name, or a folder with a sub-folder a class.", autocompletion=names("dataset")),
    ],
    search: Annotated[
        list[str] | None,
        typer.Option(help="OPTION=LOW..HIGH, with :log or without, or OPTION=A,B,C: any training option."),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="How many; the same command goes on until they are done.")] = 20,
    objective: Annotated[
        list[str] | None,
        typer.Option(help="val_top1, val_loss or another figure; latency (ms) or size (MB) of the exported fp32 ONNX."),
    ] = None,
    pruner: Annotated[
        str, typer.Option(help="Who stops trials that fall behind: median, hyperband, none; auto is median.")
    ] = "auto",
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Trials at the same time, each in a process.")] = 1,
    storage: Annotated[
        str, typer.Option(help="A SQLite file or a database's address, for many machines [default: in the folder].")
    ] = "",
    name: Annotated[str | None, typer.Option(help="The study's name [default: MODEL-DATASET].")] = None,
    runs: Runs = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images, in each trial.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Pixels of the input [default: the backbone's].")] = None,
    batch_size: Annotated[str | None, typer.Option(metavar="N|auto", help="Images a step.")] = None,
    recipe: Annotated[str | None, typer.Option(help="A recipe to begin from.", autocompletion=names("recipe"))] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file of training options.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE: any training option.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the search, and of every trial's run.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = None,
    no_pretrained: Annotated[bool, typer.Option("--no-pretrained", help="Start from random weights.")] = False,
    dataset_option: Annotated[list[str] | None, typer.Option(help="KEY=VALUE for the dataset.")] = None,
    json: Json = False,
) -> None:
    """Search training options: each trial is a run, and the best becomes a recipe for `zoo train --recipe`."""
    from zoo.catalogue.options import parse_pairs
    from zoo.disk.home import runs_root

    given = {
        "model": model,
        "dataset": dataset,
        "epochs": epochs,
        "image_size": image_size,
        "batch_size": batch_size,
        "seed": seed,
        "device": device,
        "pretrained": False if no_pretrained else None,
        "dataset_options": parse_pairs(dataset_option or [], "--dataset-option") or None,
        **parse_pairs(set_ or [], "--set"),
    }
    asked = Asked(
        registry=ctx.obj.registry,
        folder=runs_root(runs) / f"tune-{name or _default_name(model, dataset)}",
        given={key: value for key, value in given.items() if value is not None},
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
    from zoo.cli.output import note

    plan = _plan(asked)
    plan.check()
    from zoo.tune.result import conclude
    from zoo.tune.study import open_study, work

    study = open_study(plan)
    with _helpers(asked):
        work(plan, study, note)
    return conclude(plan, study)


def _plan(asked: Asked) -> TunePlan:
    import importlib.util
    import os

    from zoo.catalogue import Catalogue
    from zoo.cli.progress import TrainProgress
    from zoo.errors import EnvironmentBroken, OptionInvalid
    from zoo.records.layers import resolve_options
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
