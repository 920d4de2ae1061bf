"""`zoo train`: fine-tune any backbone on any dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.completion import names, options
from zoo.cli.folds import print_folds
from zoo.cli.launch import in_one_of_several
from zoo.cli.options import Json, Runs
from zoo.cli.start import Order, train, train_on
from zoo.disk.home import runs_root

if TYPE_CHECKING:
    from zoo.catalogue import Catalogue
    from zoo.records.layers import Resolved
    from zoo.records.run import Run


def train_cli(
    ctx: typer.Context,
    model: Annotated[
        str | None, typer.Argument(help="A model: `zoo list models`.", autocompletion=names("model"))
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="A dataset's name, or a folder with a sub-folder a class.", autocompletion=names("dataset")),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The run's name [default: MODEL-DATASET-TIME].")] = None,
    runs: Runs = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Pixels of the input [default: the backbone's].")] = None,
    batch_size: Annotated[str | None, typer.Option(metavar="N|auto", help="Images a step; auto: what fits.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    optimizer: Annotated[
        str | None, typer.Option(help="Any of timm's: adamw, sgd, adam, rmsprop, lion and more.")
    ] = None,
    schedule: Annotated[
        str | None, typer.Option(help="Of the learning rate: cosine, step, plateau, onecycle or constant.")
    ] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Of weights; norms and biases are spared.")] = None,
    layer_decay: Annotated[
        float | None, typer.Option(help="Multiply the rate by this with each layer below the classifier.")
    ] = None,
    freeze: Annotated[str | None, typer.Option(help="backbone: train only the classifier.")] = None,
    unfreeze_epoch: Annotated[
        int | None, typer.Option(help="Epochs after which what was frozen trains too; 0 means never.")
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Fit a linear classifier to features computed once: a baseline in minutes.")
    ] = False,
    drop_rate: Annotated[float | None, typer.Option(help="Dropout before the classifier.")] = None,
    drop_path_rate: Annotated[float | None, typer.Option(help="Stochastic depth.")] = None,
    loss: Annotated[str | None, typer.Option(help="auto, cross_entropy, focal or bce.")] = None,
    label_smoothing: Annotated[float | None, typer.Option(help="Of the labels while training.")] = None,
    ema_decay: Annotated[float | None, typer.Option(help="Of the weights' moving average; 0 means none.")] = None,
    clip_grad: Annotated[float | None, typer.Option(help="Largest gradient; 0 means no clipping.")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Batches for one step of the optimizer.")] = None,
    monitor: Annotated[
        str | None, typer.Option(help="The validation figure that chooses the best epoch, for example macro_f1.")
    ] = None,
    patience: Annotated[int | None, typer.Option(help="Stop after so many epochs without a better one.")] = None,
    class_weights: Annotated[
        str | None,
        typer.Option(
            metavar="balanced|FILE",
            help="Weigh classes in the training loss, by rarity or as a TOML, JSON or CSV file says.",
        ),
    ] = None,
    mixup: Annotated[
        float | None, typer.Option(help="Blend images in pairs: alpha, for example 0.2; 0 means never.")
    ] = None,
    cutmix: Annotated[
        float | None, typer.Option(help="Put a piece of one image into another: alpha, for example 1.0.")
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(metavar="RUN", help="A finished run, by name or path, whose answers are learned too.")
    ] = None,
    augment: Annotated[
        str | None,
        typer.Option(
            help="An augmentation, or a pipeline as albumentations saves it.", autocompletion=names("augmentation")
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="A recipe of registry.toml, or a .toml file of one.", autocompletion=names("recipe")),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file of training options.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE: any training option.")] = None,
    folds: Annotated[
        int | None,
        typer.Option(metavar="N", help="Cross-validate: a run for each fold; --set fold=K trains one of them alone."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order, augmentation and splits.")] = None,
    sampler: Annotated[str | None, typer.Option(help="shuffle, or balanced: every class as often.")] = None,
    cache: Annotated[str | None, typer.Option(help="Where decoded images are kept: auto, off, ram or disk.")] = None,
    cache_limit: Annotated[float | None, typer.Option(help="Gigabytes that all caches may take.")] = None,
    workers: Annotated[int | None, typer.Option(help="Threads that prepare batches; -1 chooses.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = None,
    devices: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Train on so many GPUs of this machine, a process for each.")
    ] = None,
    fsdp: Annotated[bool, typer.Option("--fsdp", help="Divide the weights among them: for models too large.")] = False,
    sync_batchnorm: Annotated[
        bool, typer.Option("--sync-batchnorm", help="Batch norms see the batches of all of them.")
    ] = False,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16 or fp16.")] = None,
    layout: Annotated[str | None, typer.Option(help="auto, nchw or nhwc.")] = None,
    compile_: Annotated[bool, typer.Option("--compile", help="Compile the training step: pays in long runs.")] = False,
    no_pretrained: Annotated[bool, typer.Option("--no-pretrained", help="Start from random weights.")] = False,
    weights: Annotated[str | None, typer.Option(help="Start from a local weights file.")] = None,
    from_: Annotated[
        str | None,
        typer.Option("--from", metavar="RUN", help="Go on from a finished run's weights and options, in a new run."),
    ] = None,
    qat: Annotated[
        bool, typer.Option("--qat", help="Learn to bear the rounding of int8; with --from RUN, 2 epochs.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an unfinished run.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the options and their origins, touch nothing.")
    ] = False,
    dataset_option: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE for the dataset.", autocompletion=options("dataset_option")),
    ] = None,
    augment_option: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE for the augmentation.", autocompletion=options("augment_option")),
    ] = None,
    backbone_option: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE for the backbone.", autocompletion=options("backbone_option")),
    ] = None,
    tracker: Annotated[
        list[str] | None,
        typer.Option(help="Who hears of the run; more than one is fine.", autocompletion=names("tracker")),
    ] = None,
    tracker_option: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE for the tracker.", autocompletion=options("tracker_option")),
    ] = None,
    license_allow: Annotated[
        str | None, typer.Option(help="Licences that code, weights and data may have, for example Apache-2.0,MIT.")
    ] = None,
    json: Json = False,
) -> None:
    """Fine-tune a model on a dataset, of one label an image or of several."""
    from zoo.catalogue.options import parse_pairs

    given: dict[str, Any] = {
        "model": model,
        "dataset": dataset,
        "epochs": epochs,
        "image_size": image_size,
        "batch_size": batch_size,
        "lr": lr,
        "optimizer": optimizer,
        "schedule": schedule,
        "weight_decay": weight_decay,
        "layer_decay": layer_decay,
        "freeze": freeze,
        "unfreeze_epoch": unfreeze_epoch,
        "probe": probe or None,
        "drop_rate": drop_rate,
        "drop_path_rate": drop_path_rate,
        "loss": loss,
        "label_smoothing": label_smoothing,
        "ema_decay": ema_decay,
        "clip_grad": clip_grad,
        "accumulate": accumulate,
        "monitor": monitor,
        "patience": patience,
        "class_weights": class_weights,
        "mixup": mixup,
        "cutmix": cutmix,
        "teacher": teacher,
        "augment": augment,
        "folds": folds,
        "seed": seed,
        "sampler": sampler,
        "cache": cache,
        "cache_limit": cache_limit,
        "workers": workers,
        "device": device,
        "fsdp": fsdp or None,
        "sync_batchnorm": sync_batchnorm or None,
        "precision": precision,
        "layout": layout,
        "compile": compile_ or None,
        "pretrained": False if no_pretrained else None,
        "weights": weights,
        "parent": from_,
        "qat": qat or None,
        "dataset_options": parse_pairs(dataset_option or [], "--dataset-option") or None,
        "augment_options": parse_pairs(augment_option or [], "--augment-option") or None,
        "backbone_options": parse_pairs(backbone_option or [], "--backbone-option") or None,
        "trackers": tuple(tracker) if tracker else None,
        "tracker_options": parse_pairs(tracker_option or [], "--tracker-option") or None,
        "license_allow": license_allow,
        **parse_pairs(set_ or [], "--set"),
    }
    given = {key: value for key, value in given.items() if value is not None}
    if no_pretrained and weights:
        raise typer.BadParameter("--no-pretrained and --weights exclude each other")
    catalogue = ctx.obj.catalogue()

    from zoo.records.layers import lasting, resolve_options

    order = Order(
        catalogue=catalogue,
        given={**given, **lasting(catalogue, given, runs)} if resume else given,
        resolve=lambda: resolve_options(catalogue, given, recipe, config, runs),
        name=name,
        root=runs_root(runs),
        resume=resume,
    )
    if dry_run and not resume:
        _print_options(catalogue, order.resolve(), devices or 1, json=json)
    elif devices and devices > 1 and not in_one_of_several():
        train_on(devices, order)
    elif (run := train(order)) is not None:
        _print_run(run, json=json)


def _print_options(catalogue: Catalogue, resolved: Resolved, devices: int, *, json: bool) -> None:
    from zoo.cli.output import print_json, print_table
    from zoo.training.machine.world import World
    from zoo.training.session import check_names

    check_names(catalogue, resolved.config, World(size=devices))
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
