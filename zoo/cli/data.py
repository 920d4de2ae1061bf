"""`zoo data`: what a dataset is made of, in numbers and in pictures, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from zoo.cli.completion import names, options
from zoo.cli.data_check import check_cli
from zoo.cli.monitor import from_log_cli
from zoo.cli.options import Json

if TYPE_CHECKING:
    from zoo.data.prepared import PreparedData

data_app = typer.Typer(help="Look at a dataset.", no_args_is_help=True, rich_markup_mode=None)

Dataset = Annotated[
    str,
    typer.Argument(help="A dataset's name, or a folder with a sub-folder a class.", autocompletion=names("dataset")),
]
DatasetOption = Annotated[
    list[str] | None, typer.Option(help="KEY=VALUE for the dataset.", autocompletion=options("dataset_option"))
]
Seed = Annotated[int, typer.Option(help="Of the splits that are cut, and of what is chosen.")]

data_app.command("check")(check_cli)
data_app.command("from-log")(from_log_cli)


@data_app.command("stats")
def stats_cli(
    ctx: typer.Context, dataset: Dataset, dataset_option: DatasetOption = None, seed: Seed = 0, json: Json = False
) -> None:
    """Count the images of each class and split; tell sizes, mean and std, and what would be left out."""
    from zoo.cli.output import print_json, print_table
    from zoo.data.look.stats import statistics

    found = statistics(_prepared(ctx, dataset, dataset_option, seed))
    if json:
        print_json(found.to_json())
        return
    splits = list(found.images)
    rows = [[name, *(counts[split] for split in splits)] for name, counts in found.per_class.items()]
    print_table(["class", *splits], [*rows, ["all", *found.images.values()]])
    facts = [
        ("height", found.height),
        ("width", found.width),
        ("mean of R, G, B", found.mean),
        ("std of R, G, B", found.std),
        ("largest class over smallest", f"{found.imbalance:g}x"),
        ("license", found.license or "not stated"),
        *(("left out", f"{image} {fault}") for image, fault in found.left_out.items()),
    ]
    print_table([f"of {found.looked_at} training images", ""], facts)


@data_app.command("preview")
def preview_cli(
    ctx: typer.Context,
    dataset: Dataset,
    out: Annotated[Path, typer.Option(help="The picture to write.")] = Path("preview.png"),
    split: Annotated[Literal["train", "val", "test"], typer.Option(help="The images to use.")] = "train",
    each: Annotated[int, typer.Option(min=1, max=64, help="Images of every class.")] = 8,
    augment: Annotated[
        str | None, typer.Option(help="Show one image through this instead.", autocompletion=names("augmentation"))
    ] = None,
    augment_option: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE for it.", autocompletion=options("augment_option"))
    ] = None,
    image: Annotated[int, typer.Option(min=0, help="Which one, as the sheet of classes numbers them.")] = 0,
    size: Annotated[int, typer.Option(min=8, max=1024, help="Pixels that the augmentation makes.")] = 224,
    dataset_option: DatasetOption = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Draw a contact sheet: some images of every class, or one image as training sees it."""
    from zoo.catalogue.made.augmentation import augmentation_maker
    from zoo.catalogue.options import parse_pairs
    from zoo.cli.output import print_json, stdout
    from zoo.data.decode import to_rgb
    from zoo.data.look.sheet import sheet_of_classes, sheet_of_one
    from zoo.disk.files import write_atomic
    from zoo.errors import OptionInvalid

    if augment_option and not augment:
        raise typer.BadParameter("--augment-option needs --augment NAME")
    made: Any = None
    if augment:
        given = parse_pairs(augment_option or [], "--augment-option")
        made = augmentation_maker(ctx.obj.catalogue(), augment, given, (size, size))
    data = _prepared(ctx, dataset, dataset_option, seed)
    images = data.splits[split]
    if made and image >= len(images):
        raise OptionInvalid(f"--image {image}: {split} has {len(images)} images, counted from 0")
    if made:
        sheet = sheet_of_one(to_rgb(images.images[image]), made, count=23, seed=seed)
    else:
        sheet = sheet_of_classes(images, data.classes, each=each, seed=seed)
    write_atomic(out, lambda file: sheet.save(file, "PNG"))
    if json:
        print_json({"file": str(out), "width": sheet.width, "height": sheet.height})
    else:
        stdout().print(str(out))


def _prepared(ctx: typer.Context, dataset: str, dataset_option: list[str] | None, seed: int) -> PreparedData:
    from zoo.catalogue.made.dataset import open_dataset
    from zoo.catalogue.options import parse_pairs
    from zoo.data.prepared import prepare

    given = parse_pairs(dataset_option or [], "--dataset-option")
    return prepare(open_dataset(ctx.obj.catalogue(), dataset, given), dataset, seed=seed)
