"""A dataset -> all that is wrong with it; what would stop training does not stop the checkup."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from zoo.data.checkup.findings import ERROR, SEVERITIES, Case, Checkup, Finding, Picture
from zoo.data.checkup.looks import look_at
from zoo.data.checkup.rules import judge_classes, judge_images, judge_likeness
from zoo.data.prepared import SPLITS, Subset, prepare
from zoo.errors import ZooError, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zoo.contracts.plugins import Dataset
    from zoo.data.checkup.looks import Look
    from zoo.data.prepared import PreparedData

Place = tuple[str, int | None]
"""The split that zoo uses an image in, and its index there."""


def examine(
    dataset: Dataset,
    name: str,
    *,
    seed: int,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Checkup:
    """Look at every image of every split, those that zoo would cut included, and judge.

    Args:
        dataset: As its plugin describes it.
        name: What the user calls it.
        seed: Of the splits that are cut.
        progress: Called with what is being done, how much of it is done, and of how much.
    """
    looks = _looks(dataset, progress)
    places, problem = _places(dataset, name, seed, progress)
    pictures = [
        _picture(dataset, (split, index), look, places.get((split, index), (split, None)))
        for split, found in looks.items()
        for index, look in enumerate(found)
    ]
    findings = [
        *problem,
        *judge_images(pictures),
        *judge_likeness(pictures, lambda done, of: progress("comparing images", done, of)),
        *judge_classes(pictures, dataset.classes),
    ]
    used = [picture.split for picture in pictures]
    return Checkup(
        dataset=name,
        seed=seed,
        classes=dataset.classes,
        multi_label=dataset.multi_label,
        images={split: used.count(split) for split in dict.fromkeys((*SPLITS, *used)) if split in used},
        findings=sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)),
        folder=_common_folder(pictures),
    )


def _looks(dataset: Dataset, progress: Callable[[str, int, int], None]) -> dict[str, list[Look]]:
    total = sum(map(len, dataset.splits.values()))
    looks: dict[str, list[Look]] = {}
    for split, part in dataset.splits.items():
        before = sum(map(len, looks.values()))

        def tell(done: int, before: int = before) -> None:
            progress("looking at images", before + done, total)

        looks[split] = look_at(part.images, tell)
    return looks


def _places(
    dataset: Dataset, name: str, seed: int, progress: Callable[[str, int, int], None]
) -> tuple[dict[tuple[str, int], Place], list[Finding]]:
    """Return where zoo would use each image, by the dataset's own split and index; what forbids it is a finding."""
    try:
        data = prepare(
            dataset, name, seed=seed, max_broken=1.0, progress=lambda *count: progress("cutting splits", *count)
        )
    except Exception as exc:  # also what a plugin's own sequence raises: a doctor examines the ill
        text = str(exc) if isinstance(exc, ZooError) else f"{type(exc).__name__}: {first_line(exc)}"
        finding = Finding(
            kind="cannot-train",
            title="zoo cannot train on this dataset",
            severity=ERROR,
            advice="mend this first; splits that the dataset lacks were not cut, and so not checked",
            cases=[Case(detail=text)],
        )
        return {}, [finding]
    return _origins(data), []


def _origins(data: PreparedData) -> dict[tuple[str, int], Place]:
    found: dict[tuple[str, int], Place] = {}
    for split, part in data.splits.items():
        chosen = part.images
        assert isinstance(chosen, Subset)
        found.update({(chosen.origin, own): (split, index) for index, own in enumerate(chosen.indices.tolist())})
    return found


def _common_folder(pictures: Sequence[Picture]) -> str:
    folders = {picture.look.path.parent for picture in pictures if picture.look.path}
    if len({folder.is_absolute() for folder in folders}) != 1:
        return ""
    try:
        return os.path.commonpath(folders)
    except ValueError:  # on several drives
        return ""


def _picture(dataset: Dataset, source: tuple[str, int], look: Look, place: Place) -> Picture:
    split, index = source
    label = dataset.splits[split].labels[index]
    chosen = np.flatnonzero(label) if dataset.multi_label else [label]
    return Picture(
        split=place[0],
        index=place[1],
        source_split=split,
        source_index=index,
        classes=tuple(dataset.classes[int(i)] for i in chosen),
        look=look,
    )
