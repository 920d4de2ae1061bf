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
    """Measure accuracy, per class and as a confusion matrix."""
    from zoo.cli.output import note, percent, print_json, print_table
    from zoo.evaluate.subject import evaluate
    from zoo.find import find_any
    from zoo.home import runs_root

    found = find_any(subject, runs_root(runs), note)
    metrics = evaluate(ctx.obj.catalogue(), found, split)
    if json:
        print_json({"subject": str(found.path), "split": split, **metrics})
        return
    summary = [metrics["images"], percent(metrics["top1"]), f"{metrics['loss']:.4f}", f"{metrics['macro_f1']:.4f}"]
    print_table(["images", "top-1", "loss", "macro F1"], [summary], title=f"{found.path}, {split}")
    rows = [
        (name, f["images"], f"{f['precision']:.3f}", f"{f['recall']:.3f}", f"{f['f1']:.3f}")
        for name, f in metrics["per_class"].items()
    ]
    print_table(["class", "images", "precision", "recall", "F1"], rows)
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
