"""Images -> the most probable classes or all labels over their thresholds, by a run's weights or an artifact."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np

from zoo.data.decode import describe, to_rgb
from zoo.errors import ContractBroken
from zoo.evaluation.figures import percent
from zoo.evaluation.page import fragment
from zoo.exporting.subject import open_subject
from zoo.runtime.model import Answer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from zoo.catalogue import Catalogue
    from zoo.contracts.plugins import Image
    from zoo.exporting.subject import Subject
    from zoo.records.artifact import Artifact
    from zoo.records.run import Run

DECODED_FIRST = 32
"""How many images are looked at before a model is loaded: one that is broken is told without the wait."""
MOST_SHOWN = 24
"""Pictures in a notebook's cell."""


class Predictions(list[Answer]):
    """An answer for each image, in the order given."""

    def __init__(self, answers: Sequence[Answer], images: Sequence[Image], subject: Path) -> None:
        super().__init__(answers)
        self.images = tuple(images)
        self.subject = subject
        """The run or the artifact that answered."""

    def _repr_html_(self) -> str:
        pairs = list(zip(self, self.images, strict=True))
        shown = "".join(_figure(answer, image) for answer, image in pairs[:MOST_SHOWN])
        rest = f'<p class="faint">and {len(self) - MOST_SHOWN} more</p>' if len(self) > MOST_SHOWN else ""
        told = f"{len(self)} pictures, asked of {self.subject}"
        return fragment([f'<p class="faint">{escape(told)}</p>', f'<div class="pictures">{shown}</div>', rest])


def predict_images(catalogue: Catalogue, found: Run | Artifact, images: Sequence[Image], *, top: int) -> Predictions:
    """Classify images one by one, in the order given.

    Args:
        catalogue: What names mean.
        found: Whose model is asked.
        images: Files, encoded bytes, or RGB uint8 [H, W, 3].
        top: How many classes to tell, where an image has one.

    Raises:
        ImageUnreadable: a file that is no complete image; it is named, and nothing is answered for the others.
        RunInvalid, ArtifactInvalid: the run or the artifact cannot be used.
    """
    for image in images[:DECODED_FIRST]:
        to_rgb(image)
    subject = open_subject(catalogue, found)
    return Predictions([_answer(subject, image, top) for image in images], images, found.path)


def _answer(subject: Subject, image: Image, top: int) -> Answer:
    probabilities, unknown = subject.ask(subject.pixels(image)[None])
    if not np.isfinite(probabilities).all():
        raise ContractBroken(
            f"{subject.path} gave an answer that is not finite for {describe(image)}; run `zoo verify`"
        )
    return Answer.of(
        describe(image),
        probabilities[0],
        None if unknown is None else bool(unknown[0]),
        classes=subject.classes,
        thresholds=None if subject.thresholds is None else subject.thresholds.tolist(),
        top=top,
    )


def _figure(answer: Answer, image: Image) -> str:
    from zoo.evaluation.thumbnails import picture

    said = answer.top if answer.labels is None else answer.labels
    lines = ["<b>unknown</b>"] if answer.unknown else []
    lines += [
        f'{escape(name)} {percent(share)}<span class="bar" style="width: {share:.1%}"></span>' for name, share in said
    ]
    caption = "".join(lines) or "no label"
    return f"<figure>{picture(to_rgb(image), str(answer))}<figcaption>{caption}</figcaption></figure>"
