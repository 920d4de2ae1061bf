"""`zoo predict`: what is in these pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.options import Json, Runs


def predict_cli(
    ctx: typer.Context,
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    using: Annotated[str | None, typer.Option(help="A run or an artifact [default: the newest].")] = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes to tell.")] = 3,
    runs: Runs = None,
    json: Json = False,
) -> None:
    """Classify image files."""
    from zoo.cli.output import note, percent, print_json, print_table
    from zoo.find import find_any
    from zoo.home import runs_root
    from zoo.predict import predict_files

    found = find_any(using, runs_root(runs), note)
    answers = predict_files(ctx.obj.catalogue(), found, images, top=top)
    if json:
        print_json({"subject": str(found.path), "predictions": [answer.to_json() for answer in answers]})
        return
    rows = [(a.image, *(f"{name} {percent(p)}" for name, p in a.top)) for a in answers]
    width = max(len(row) for row in rows)
    print_table(["image", "answer", *(f"{i}." for i in range(2, width))], rows)
