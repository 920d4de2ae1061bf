"""`zoo predict`: what is in these pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo.cli.options import Json, Runs

if TYPE_CHECKING:
    from zoo.runtime.model import Answer


def predict_cli(
    ctx: typer.Context,
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    using: Annotated[str | None, typer.Option(help="A run or an artifact [default: the newest].")] = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes to tell, where an image has one.")] = 3,
    runs: Runs = None,
    json: Json = False,
) -> None:
    """Classify image files; with several labels an image, tell every one that reaches its threshold.

    A file exported with --unknown says "unknown" of an image that is like nothing it knows.
    """
    from zoo.cli.output import print_json, print_table
    from zoo.exporting.door import predict

    answers = predict(using, images, top=top, runs=runs, catalogue=ctx.obj.catalogue())
    if json:
        print_json({"subject": str(answers.subject), "predictions": [answer.to_json() for answer in answers]})
        return
    told = [_told(answer) for answer in answers]
    if answers[0].labels is not None:
        print_table(
            ["image", "labels"], [(a.image, ", ".join(t) or "none") for a, t in zip(answers, told, strict=True)]
        )
        return
    width = max(map(len, told))
    rows = [(a.image, *t, *[""] * (width - len(t))) for a, t in zip(answers, told, strict=True)]
    print_table(["image", "answer", *(f"{i}." for i in range(2, width + 1))], rows)


def _told(answer: Answer) -> list[str]:
    from zoo.cli.output import percent

    if answer.unknown:
        return ["unknown"]
    return [f"{name} {percent(p)}" for name, p in (answer.top if answer.labels is None else answer.labels)]
