"""A run or an artifact on one of its splits -> accuracy and every other figure (`zoo eval`)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from zoo.evaluation.figures import TITLES, class_table, figure, headline, summary
from zoo.evaluation.metrics import metrics_of
from zoo.evaluation.page import folded, fragment, table
from zoo.exporting.subject import open_subject
from zoo.records.artifact import Artifact
from zoo.records.find import run_of
from zoo.records.page import confusion_table
from zoo.records.trained import load_trained

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from zoo.catalogue import Catalogue
    from zoo.records.run import Run


@dataclass(frozen=True, kw_only=True)
class ClassFigures:
    """One class; shares lie in 0..1."""

    images: int
    """That have it."""
    precision: float
    """0 where it was never said."""
    recall: float
    f1: float
    ap: float | None = None
    """Average precision, where an image may have several labels; None also for a label that no image has."""
    threshold: float | None = None
    """The probability from which on it is said, where an image may have several labels."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values; those of several labels only where there may be several."""
        values = asdict(self)
        return values if self.threshold is not None else {k: v for k, v in values.items() if v is not None}


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a run or an artifact is worth on a split; shares lie in 0..1, losses are in nats."""

    subject: Path
    split: str
    images: int
    loss: float
    """Mean cross-entropy; binary, over images and labels, where an image may have several."""
    ece: float
    """Expected calibration error, over 15 bins of equal width."""
    macro_f1: float
    per_class: Mapping[str, ClassFigures]
    top1: float | None = None
    """None where an image may have several labels; so are the next four."""
    top5: float | None = None
    """None as well where there are no more than 5 classes."""
    macro_precision: float | None = None
    macro_recall: float | None = None
    confusion: tuple[tuple[int, ...], ...] | None = None
    """Images of [true][predicted]."""
    map: float | None = None
    """Mean average precision; None where an image has one label, and so are the next two."""
    exact: float | None = None
    """The share of images with all labels right."""
    micro_f1: float | None = None
    without_images: tuple[str, ...] = ()
    """Labels that no image of the split has: map and macro_f1 leave them out."""
    unknown: float | None = None
    """The share of the images that an artifact calls unknown; None where it does not tell."""

    @classmethod
    def of(cls, subject: Path, split: str, metrics: Mapping[str, Any]) -> Evaluation:
        """Take what `metrics_of` returns."""
        rest = {key: value for key, value in metrics.items() if key not in ("per_class", "confusion", "without_images")}
        return cls(
            subject=subject,
            split=split,
            per_class={name: ClassFigures(**found) for name, found in metrics["per_class"].items()},
            confusion=tuple(map(tuple, metrics["confusion"])) if "confusion" in metrics else None,
            without_images=tuple(metrics.get("without_images", ())),
            **rest,
        )

    @property
    def classes(self) -> list[str]:
        """The classes, in the order of the confusion's rows."""
        return [*self.per_class]

    def summary(self) -> dict[str, str]:
        """Return title -> text of what one line tells."""
        return summary(self.to_json())

    def class_table(self) -> tuple[list[str], list[list[str]]]:
        """Return the columns and rows of a table with one line a class."""
        return class_table({name: found.to_json() for name, found in self.per_class.items()})

    def to_json(self) -> dict[str, Any]:
        """Return plain values: what `zoo eval --json` prints."""
        told = {key: value for key, value in vars(self).items() if value is not None}
        told |= {"subject": str(self.subject), "per_class": {k: v.to_json() for k, v in self.per_class.items()}}
        if self.confusion is not None:
            told |= {"confusion": [list(row) for row in self.confusion]}
        several = self.map is not None
        told.pop("without_images")
        return told | ({"without_images": list(self.without_images)} if several else {})

    def _repr_html_(self) -> str:
        told = self.to_json()
        judged = headline(told)
        columns, rows = self.class_table()
        said = self.summary()
        body = [
            f'<p class="big">{figure(judged, told[judged])} {TITLES[judged]}</p>',
            f'<p class="faint">{escape(str(self.subject))} on {self.images} {escape(self.split)} images</p>',
            table([*said], [[*said.values()]]),
            confusion_table(self.classes, self.confusion) if self.confusion else "",
            folded("each class", table(columns, rows)),
        ]
        return fragment(body)


def evaluate_subject(catalogue: Catalogue, found: Run | Artifact, split: str) -> Evaluation:
    """Measure one split of the run's own data; labels are judged at the subject's own thresholds.

    Raises:
        RunInvalid, ArtifactInvalid, DatasetInvalid: the run, the artifact or the data is not what it was.
    """
    trained = load_trained(catalogue, run_of(found) if isinstance(found, Artifact) else found)
    subject, images = open_subject(trained.catalogue, found), trained.data.splits[split]
    answers = subject.ask_split(images, workers=trained.workers)
    metrics = metrics_of(images.labels, answers.probabilities, subject.classes, subject.thresholds)
    if answers.unknown is not None:
        metrics["unknown"] = float(answers.unknown.mean())
    return Evaluation.of(found.path, split, metrics)
