"""`zoo monitor`: is production still like the proof's images? And `zoo data from-log`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.options import Json, Runs

if TYPE_CHECKING:
    from zoo.deploy.monitor.drift import Drift

Log = Annotated[Path, typer.Argument(help="What `zoo serve --log` or a bundle's `predict --log` wrote.")]


def monitor_cli(
    log: Log,
    artifact: Annotated[str | None, typer.Argument(help="The artifact that answered [default: the newest].")] = None,
    last: Annotated[int, typer.Option(min=0, help="Only so many of the newest predictions; 0 for all.")] = 0,
    out: Annotated[Path | None, typer.Option(help="The page [default: LOG.html].")] = None,
    runs: Runs = None,
    json: Json = False,
) -> None:
    """Compare a log of predictions with the proof's images; exit with 3 if something has shifted.

    Looked at are the predicted classes, their confidence, how many images are unknown, and brightness, contrast,
    saturation and sharpness of the images.
    """
    from zoo.cli.output import print_json
    from zoo.contracts.progress import note
    from zoo.deploy.monitor.drift import drift
    from zoo.deploy.monitor.page import render_drift
    from zoo.disk.files import write_text
    from zoo.disk.home import runs_root
    from zoo.errors import ProofFailed
    from zoo.exporting.reference import read_reference
    from zoo.records.find import find_artifact

    found = find_artifact(artifact, runs_root(runs), note)
    manifest = found.manifest()
    entries = _entries(log)
    compared = drift(
        read_reference(found),
        entries[-last:] if last else entries,
        model=manifest.files[manifest.model_file],
        unknown=manifest.report.artifact_unknown,
    )
    page = out or log.with_name(f"{log.name}.html")
    write_text(page, render_drift(f"{manifest.lineage['run']} {found.path.name}", log.name, compared))
    if json:
        print_json({"artifact": str(found.path), "page": str(page), **compared.to_json()})
    else:
        _print(compared, page)
    if compared.findings:
        raise ProofFailed(f"{log}: {'; '.join(compared.findings)}")


def _print(found: Drift, page: Path) -> None:
    from zoo.cli.output import percent, print_table, stdout

    rows = [[s.what, f"{s.psi:.3f}", f"{s.limit:.2f}", "shifted" if s.finding else "ok"] for s in found.shifts]
    print_table(["of the images", "PSI", "limit", ""], rows)
    if found.unknown is not None and found.reference_unknown is not None:
        before = percent(found.reference_unknown)
        stdout().print(f"{percent(found.unknown)} of the images are unknown, {before} of the proof's images were")
    left_out = f", {found.left_out} of other models left out" if found.left_out else ""
    stdout().print(f"{found.entries} predictions beside {found.reference_images} images of the proof{left_out}: {page}")


def from_log_cli(
    log: Log,
    out: Annotated[Path, typer.Argument(help="A folder that is not there yet.")],
    images: Annotated[Path, typer.Option(help="The folder that the log's file names are in.")] = Path(),
    below: Annotated[float, typer.Option(min=0, max=1, help="Only images with a confidence up to this.")] = 1.0,
    unknown: Annotated[bool, typer.Option("--unknown", help="Only images that were called unknown.")] = False,
    label: Annotated[list[str] | None, typer.Option(help="Only images of which this was said.")] = None,
    most: Annotated[int, typer.Option(min=0, help="The least confident so many; 0 for all.")] = 0,
    json: Json = False,
) -> None:
    """Lay images that a log tells of out as a dataset, to be corrected and trained on.

    Every image goes into the folder of what was predicted. Move those that are wrong, then `zoo train --from RUN
    --dataset OUT`.
    """
    from zoo.cli.output import print_json, print_table, stdout
    from zoo.deploy.monitor.from_log import Wanted, dataset_from_log

    wanted = Wanted(below=below, unknown=unknown, classes=tuple(label or ()), most=most)
    made = dataset_from_log(_entries(log), out, wanted, images=images)
    if json:
        print_json({"path": str(made.path), "images": made.images, "missing": made.missing})
        return
    print_table(["predicted", "images"], list(made.images.items()))
    missing = f" ({made.missing} images of the log are not there)" if made.missing else ""
    stdout().print(f"{made.path}: look through it, move what is wrong{missing}")


def _entries(log: Path) -> list[dict[str, Any]]:
    from zoo.errors import OptionInvalid
    from zoo.runtime.record import read_record

    try:
        return list(read_record(log))
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or str(exc)
        raise OptionInvalid(f"{log} is no log of predictions: {reason}; `zoo serve --log FILE` writes one") from exc
