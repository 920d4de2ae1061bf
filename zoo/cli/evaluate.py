"""`zoo eval`: accuracy of a run or an artifact on one of its splits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from zoo.cli.options import Json, Runs

if TYPE_CHECKING:
    from pathlib import Path


def eval_cli(
    ctx: typer.Context,
    subject: Annotated[str | None, typer.Argument(help="A run or an artifact [default: the newest].")] = None,
    split: Annotated[Literal["train", "val", "test"], typer.Option(help="The images to use.")] = "test",
    runs: Runs = None,
    json: Json = False,
) -> None:
    """Measure accuracy, per class and as a confusion matrix; with several labels an image, mAP and each label."""
    from zoo.cli.output import print_json, print_table, stdout
    from zoo.contracts.progress import note
    from zoo.disk.home import runs_root
    from zoo.evaluation.figures import class_table, summary
    from zoo.exporting.evaluate import evaluate
    from zoo.records.find import find_any

    found = find_any(subject, runs_root(runs), note)
    metrics = evaluate(ctx.obj.catalogue(), found, split)
    if json:
        print_json({"subject": str(found.path), "split": split, **metrics})
        return
    told = summary(metrics)
    print_table(list(told), [list(told.values())], title=f"{found.path}, {split}")
    print_table(*class_table(metrics["per_class"]))
    if metrics.get("without_images"):
        stdout().print(f"mAP leaves out what no image of this split has: {', '.join(metrics['without_images'])}")
    if "confusion" in metrics:
        _print_confusion(list(metrics["per_class"]), metrics["confusion"], found.path)


def _print_confusion(classes: list[str], confusion: list[list[int]], path: Path) -> None:
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
