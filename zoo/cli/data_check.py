"""`zoo data check`: what is wrong with a dataset; a table, a document, a page with pictures."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo.cli.completion import names, options
from zoo.cli.options import Json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zoo.data.checkup.findings import Case, Checkup, Finding

REFRESH_SECONDS = 0.2
MOST_EXAMPLES = 3
"""In the table, of each finding."""


def check_cli(
    ctx: typer.Context,
    dataset: Annotated[
        str,
        typer.Argument(
            help="A dataset's name, or a folder with a sub-folder a class.", autocompletion=names("dataset")
        ),
    ],
    page: Annotated[Path, typer.Option(help="The HTML page with pictures to write.")] = Path("check.html"),
    no_page: Annotated[bool, typer.Option("--no-page", help="Write no page.")] = False,
    dataset_option: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE for the dataset.", autocompletion=options("dataset_option"))
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the splits that are cut.")] = 0,
    json: Json = False,
) -> None:
    """Look for broken images, duplicates, leaks across splits, wrong labels; exit 3 if there is an error among them."""
    from zoo.catalogue.made.dataset import open_dataset
    from zoo.catalogue.options import parse_pairs
    from zoo.cli.output import print_json
    from zoo.data.checkup.examine import examine
    from zoo.data.checkup.page import render_page
    from zoo.disk.files import write_text
    from zoo.errors import ProofFailed

    if page.is_dir() and not no_page:
        raise typer.BadParameter(f"--page {page} is a folder; name a file")
    given = parse_pairs(dataset_option or [], "--dataset-option")
    found = open_dataset(ctx.obj.catalogue(), dataset, given)
    with _progress() as progress:
        checkup = examine(found, dataset, seed=seed, progress=progress)
    if not no_page:
        write_text(page, render_page(checkup, found))
    if json:
        print_json({**checkup.to_json(), "page": None if no_page else str(page)})
    else:
        _print(checkup, None if no_page else page)
    if checkup.errors:
        worst = "; ".join(f"{f.title}: {f.extent if f.images else f.cases[0].detail}" for f in checkup.errors)
        raise ProofFailed(f"dataset {dataset!r}: {worst}" + ("" if no_page else f"; {page} shows them"))


def _print(checkup: Checkup, page: Path | None) -> None:
    from zoo.cli.output import print_table, stdout

    rows = [(f.severity, f.title, f.extent, _examples(f, checkup.folder), f.advice) for f in checkup.findings]
    if rows:
        print_table(["", "finding", "how many", "for example", "what to do now"], rows)
    place = f", below {checkup.folder}" if checkup.folder else ""
    stdout().print(f"{'' if rows else 'nothing found wrong; '}looked at {checkup.contents}{place}")
    if page:
        stdout().print(f"with pictures: {page}")


def _examples(finding: Finding, folder: str) -> str:
    shown = finding.cases[:MOST_EXAMPLES] if finding.severity != "remark" else finding.cases[:1]
    more = len(finding.cases) - len(shown)
    return "\n".join([*(_example(case, folder) for case in shown), *([f"and {more:,} more"] if more else [])])


def _example(case: Case, folder: str) -> str:
    if not case.pictures:
        return case.detail
    names = " = ".join(picture.name(folder) for picture in case.pictures[:2])
    # The title says what such pictures have in common; a single one has a fault of its own.
    return f"{names} {case.detail}" if len(case.pictures) == 1 else names


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar on stderr while it is a terminal; yield what moves it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from zoo.contracts.progress import console

    screen = console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bars:
        task = bars.add_task("", total=None)
        last, shown_at = "", 0.0

        def move(stage: str, done: int, total: int) -> None:
            nonlocal last, shown_at
            if stage != last or done == total or time.monotonic() >= shown_at + REFRESH_SECONDS:
                last, shown_at = stage, time.monotonic()
                bars.update(task, description=stage, completed=done, total=total)

        yield move
