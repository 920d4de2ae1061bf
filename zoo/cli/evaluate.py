"""`zoo eval`: accuracy of a run or an artifact on one of its splits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from zoo.cli.options import Json, Runs

if TYPE_CHECKING:
    from collections.abc import Sequence


def eval_cli(
    ctx: typer.Context,
    subject: Annotated[str | None, typer.Argument(help="A run or an artifact [default: the newest].")] = None,
    split: Annotated[Literal["train", "val", "test"], typer.Option(help="The images to use.")] = "test",
    runs: Runs = None,
    json: Json = False,
) -> None:
    """Measure accuracy, per class and as a confusion matrix; with several labels an image, mAP and each label."""
    from zoo.cli.output import print_json, print_table, stdout
    from zoo.exporting.door import evaluate

    found = evaluate(subject, split, runs=runs, catalogue=ctx.obj.catalogue())
    if json:
        print_json(found.to_json())
        return
    said = found.summary()
    print_table([*said], [[*said.values()]], title=f"{found.subject}, {split}")
    print_table(*found.class_table())
    if found.without_images:
        stdout().print(f"mAP leaves out what no image of this split has: {', '.join(found.without_images)}")
    if found.confusion:
        _print_confusion(found.classes, found.confusion)


def _print_confusion(classes: Sequence[str], confusion: Sequence[Sequence[int]]) -> None:
    from zoo.cli.output import print_table

    if len(classes) <= 20:
        rows: list[list[Any]] = [[name, *(n or "-" for n in row)] for name, row in zip(classes, confusion, strict=True)]
        print_table(["true \\ predicted", *classes], rows)
        return
    worst = sorted(
        ((n, classes[i], classes[j]) for i, row in enumerate(confusion) for j, n in enumerate(row) if i != j and n),
        reverse=True,
    )
    print_table(["images", "true", "taken for"], worst[:20])
