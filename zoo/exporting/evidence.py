"""What is asked beside the labelled proof: the images that a file was chosen by, and pictures that need no label."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.contracts.plugins import Split
from zoo.data.folders import image_files
from zoo.data.screen import screen
from zoo.errors import DatasetInvalid
from zoo.evaluation.labels import thresholds_of
from zoo.exporting.compare import agreed, selection
from zoo.exporting.judge import CHOOSES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from zoo.exporting.asking import Asked
    from zoo.records.trained import Trained


def parts(trained: Trained, split: str, also: Sequence[Path]) -> dict[str, Split]:
    """Return what is asked besides the split that proves: the one that chose, and folders of pictures.

    Raises:
        DatasetInvalid: a folder holds no picture that can be read.
    """
    chose = {} if split == CHOOSES else {CHOOSES: trained.data.splits[CHOOSES]}
    # A folder may be called as a split is.
    return {**chose, **{f"{folder}/": pictures(folder) for folder in also}}


def evidence(
    trained: Trained, ask: Callable[[Split], Asked], asked: Mapping[str, Split], confidence: float
) -> dict[str, Any]:
    """Return `selection` and `agreement` of a report, as far as they come from what `parts` names.

    Args:
        trained: The run.
        ask: Asks eager fp32 and the artifact.
        asked: Name -> images.
        confidence: Of the bounds, in 0..1.
    """
    thresholds = thresholds_of(trained.record)
    found: dict[str, Any] = {"agreement": {}}
    for name, part in asked.items():
        answers = ask(part).answers
        pair = (answers["reference"], answers["artifact"])
        found["agreement"][name] = agreed(*pair, thresholds, confidence)
        if name == CHOOSES:
            found["selection"] = selection(CHOOSES, part.labels, *pair, thresholds)
    return found


def pictures(folder: Path) -> Split:
    """Return the pictures below a folder that can be read, with labels that mean nothing.

    Raises:
        DatasetInvalid: there is none.
    """
    files = image_files(folder)
    good = [file for file, look in zip(files, screen(files, str(folder)), strict=True) if not look.fault]
    if not good:
        raise DatasetInvalid(f"{folder} holds no picture that can be read; name a folder of images after --also")
    return Split(images=good, labels=np.zeros(len(good), np.int64))
