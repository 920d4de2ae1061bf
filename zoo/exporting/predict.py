"""Image files -> the most probable classes or all labels over their thresholds, by a run's weights or an artifact."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from zoo.data.decode import describe
from zoo.errors import ContractBroken
from zoo.exporting.subject import open_subject
from zoo.runtime.model import Answer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from zoo.catalogue import Catalogue
    from zoo.exporting.subject import Subject
    from zoo.records.artifact import Artifact
    from zoo.records.run import Run


def predict_files(catalogue: Catalogue, found: Run | Artifact, files: Sequence[Path], *, top: int) -> list[Answer]:
    """Classify files one by one, in the order given.

    Raises:
        ImageUnreadable: a file that is no complete image; it is named, and nothing is answered for the others.
        RunInvalid, ArtifactInvalid: the run or the artifact cannot be used.
    """
    subject = open_subject(catalogue, found)
    return [_answer(subject, file, top) for file in files]


def _answer(subject: Subject, file: Path, top: int) -> Answer:
    probabilities, unknown = subject.ask(subject.pixels(file)[None])
    if not np.isfinite(probabilities).all():
        raise ContractBroken(f"{subject.path} gave an answer that is not finite for {describe(file)}; run `zoo verify`")
    return Answer.of(
        describe(file),
        probabilities[0],
        None if unknown is None else bool(unknown[0]),
        classes=subject.classes,
        thresholds=None if subject.thresholds is None else subject.thresholds.tolist(),
        top=top,
    )
