"""`zoo train`: fine-tune any backbone on any dataset."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.completion import names
from zoo.cli.flags import with_training_flags
from zoo.cli.folds import print_folds
from zoo.cli.options import RUN, Config, Json, Recipe, Runs, Set
from zoo.records.rows import Group

if TYPE_CHECKING:
    from zoo.records.run import Run
    from zoo.training.start import Order


Model = Annotated[str | None, typer.Argument(help="A model: `zoo list models`.", autocompletion=names("model"))]
Name = Annotated[
    str | None,
    typer.Option(help="The run's name [default: MODEL-DATASET-TIME].", metavar="NAME", rich_help_panel=RUN),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume", help="Go on with an unfinished run, whose options stay as they were.", rich_help_panel=RUN
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Print the options and their origins, touch nothing.", rich_help_panel=RUN),
]
Devices = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Train on so many GPUs of this machine, a process for each.",
        rich_help_panel=Group.machine.value,
    ),
]


@with_training_flags
def train_cli(
    ctx: typer.Context,
    given: dict[str, Any],
    model: Model = None,
    name: Name = None,
    runs: Runs = None,
    recipe: Recipe = None,
    config: Config = None,
    set_: Set = None,
    resume: Resume = False,
    dry_run: DryRun = False,
    devices: Devices = None,
    json: Json = False,
) -> None:
    """Fine-tune a model on a dataset, of one label an image or of several; for example

    zoo train resnet50 --dataset ./photos

    Later layers go before earlier ones: defaults, recipe, registry.toml, --config, flags. The defaults told here are
    the first layer; --dry-run prints what holds, and where it comes from.
    """
    from zoo.catalogue.options import parse_pairs
    from zoo.training.early import in_one_of_several
    from zoo.training.start import Order, carry_out

    options = {"model": model, **given, **parse_pairs(set_ or [], "--set")}
    if options.get("pretrained") is False and options.get("weights"):
        raise typer.BadParameter("--no-pretrained and --weights exclude each other")
    asked = Order.of(options, name, runs, recipe, config, ctx.obj.catalogue(), resume=resume)
    if dry_run and not resume:
        _print_options(asked, devices or 1, json=json)
    elif devices and devices > 1 and not in_one_of_several():
        from zoo.cli.launch import train_on

        train_on(devices, asked)
    else:
        run = carry_out(asked, progress=True)
        if os.environ.get("RANK", "0") == "0":
            _print_run(run, json=json)


def _print_options(asked: Order, devices: int, *, json: bool) -> None:
    from zoo.cli.output import print_json, print_table

    resolved = asked.checked().resolve()
    from zoo.training.machine.world import World
    from zoo.training.session import check_names

    check_names(asked.catalogue, resolved.config, World(size=devices))
    values = resolved.config.model_dump(mode="json")
    if json:
        print_json({key: {"value": value, "origin": resolved.origins[key]} for key, value in values.items()})
        return
    print_table(
        ["option", "value", "origin"], [(key, repr(value), resolved.origins[key]) for key, value in values.items()]
    )


def _print_run(run: Run, *, json: bool) -> None:
    from zoo.cli.output import print_json, print_table, stdout
    from zoo.evaluation.figures import summary

    if run.holds_folds:
        print_folds(run, json=json)
        return
    record = run.record()
    if json:
        print_json({"run": str(run.path), **record.model_dump(mode="json", by_alias=True)})
        return
    told = {split: summary(record.metrics[split]) for split in ("val", "test")}
    print_table(["split", *told["val"]], [(split, *figures.values()) for split, figures in told.items()])
    stdout().print(f"{run.path} is finished; next: zoo export {run.name} --onnx --int8")
