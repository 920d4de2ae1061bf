"""Images that a log tells of -> a folder to look through, correct, and train on."""

from __future__ import annotations

import csv
import io
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.disk.files import replace_folder, scratch_folder, sha256, write_text
from zoo.errors import DatasetInvalid, EnvironmentBroken

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

TABLE = "labels.csv"
COLUMNS = ("file", "prediction", "confidence", "unknown", "source")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which images are taken; all of what is given must hold."""

    below: float = 1.0
    """Confidence, in 0..1; the largest is left out only by a smaller one."""
    unknown: bool = False
    """Only those that were called unknown."""
    classes: tuple[str, ...] = ()
    """Only those of which one of these was said."""
    most: int = 0
    """The least confident of them; 0 for all."""


@dataclass(frozen=True, kw_only=True)
class Collected:
    """What was laid out."""

    path: Path
    images: dict[str, int]
    """Class that was predicted -> images."""
    missing: int
    """Images of the log that are no longer where they were."""


def dataset_from_log(
    entries: Iterable[Mapping[str, Any]], out: Path, wanted: Wanted, *, images: Path = Path()
) -> Collected:
    """Copy the wanted images into `out/CLASS/`, by what was predicted; a person then moves what is wrong.

    Args:
        entries: Of the log.
        out: A folder that is not there yet. `labels.csv` in it tells where each image came from.
        wanted: Which.
        images: The folder that names in the log are in; absolute ones stand for themselves.

    Raises:
        DatasetInvalid: `out` is there already, or no image is wanted and still there.
        EnvironmentBroken: the disk is full.
    """
    if out.exists():
        raise DatasetInvalid(f"{out} is there already; name a folder that is not")
    chosen = sorted((entry for entry in entries if _is_wanted(entry, wanted)), key=lambda entry: entry["confidence"])
    there = [(entry, images / str(entry["image"])) for entry in chosen]
    found = [(entry, file) for entry, file in there if entry["image"] and file.is_file()]
    if not found:
        raise DatasetInvalid(
            f"none of the {len(chosen)} wanted images is at hand; log paths that stay, or name their folder by --images"
        )
    with scratch_folder(out) as folder:
        counts = _lay_out(found[: wanted.most or None], folder)
        replace_folder(folder, out)
    return Collected(path=out, images=counts, missing=len(there) - len(found))


def _is_wanted(entry: Mapping[str, Any], wanted: Wanted) -> bool:
    said = _said(entry)
    return (
        entry["confidence"] <= wanted.below
        and (not wanted.unknown or entry.get("unknown") is True)
        and (not wanted.classes or not set(said).isdisjoint(wanted.classes))
    )


def _said(entry: Mapping[str, Any]) -> list[str]:
    said = entry["prediction"]
    return said if isinstance(said, list) else [said]


def _lay_out(found: Sequence[tuple[Mapping[str, Any], Path]], folder: Path) -> dict[str, int]:
    counts: dict[str, int] = {}
    table, rows = io.StringIO(newline=""), set()
    writer = csv.writer(table)
    writer.writerow(COLUMNS)
    for entry, file in found:
        label = re.sub(r"[^\w +.-]", "_", (_said(entry) or ["none"])[0]).strip(".") or "none"
        # One picture, though it was asked of the model several times.
        place = folder / label / f"{sha256(file)[:16]}{file.suffix.lower()}"
        if place in rows:
            continue
        rows.add(place)
        counts[label] = counts.get(label, 0) + 1
        try:
            place.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, place)
        except OSError as exc:
            raise EnvironmentBroken(
                f"cannot copy {file}: {exc.strerror or exc}; free space or choose another place"
            ) from exc
        said = " ".join(_said(entry))
        writer.writerow([f"{label}/{place.name}", said, entry["confidence"], entry.get("unknown"), file])
    write_text(folder / TABLE, table.getvalue())
    return dict(sorted(counts.items()))
