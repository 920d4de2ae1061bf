"""What is wrong with a dataset: each fault named, weighed, with its images and what to do about it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zoo.data.decode import describe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from zoo.data.checkup.looks import Look

ERROR, WARNING, REMARK = "error", "warning", "remark"
SEVERITIES = (ERROR, WARNING, REMARK)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One image of a dataset, where it is used, and what was found of it."""

    split: str
    """Where zoo trains or tests with it; where the dataset has it if it is left out."""
    index: int | None
    """In that split as zoo makes it ready, as `zoo data preview --image` counts; None if it is left out."""
    source_split: str
    source_index: int
    """Where the dataset itself has it."""
    classes: tuple[str, ...]
    """Its class, or all that it is labelled with in a multi-label dataset."""
    look: Look

    def name(self, folder: str = "") -> str:
        """Name it for a person, as seen from `folder`."""
        if self.look.path:
            return describe(self.look.path).removeprefix(f"{folder}{os.sep}")
        return f"image {self.source_index} of {self.source_split}"

    @property
    def label(self) -> str:
        """Name its class for a person."""
        return ", ".join(self.classes) or "no class"

    def to_json(self) -> dict[str, Any]:
        """Return plain values; `path` is null for an image in memory."""
        return {
            "split": self.split,
            "index": self.index,
            "source_split": self.source_split,
            "source_index": self.source_index,
            "path": describe(self.look.path) if self.look.path else None,
            "classes": list(self.classes),
            "height": self.look.height or None,
            "width": self.look.width or None,
        }


@dataclass(frozen=True, kw_only=True)
class Case:
    """One occurrence of a fault: one image, or several that belong together, or none for a fault of a class."""

    pictures: tuple[Picture, ...] = ()
    detail: str = ""
    """What is wrong here, for a person."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """The same for a program."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"detail": self.detail, **self.facts, "images": [picture.to_json() for picture in self.pictures]}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """All occurrences of one fault."""

    kind: str
    """Lasting, for programs: "unreadable", "leak", "near-duplicate", ..."""
    title: str
    severity: str
    """ERROR, WARNING or REMARK."""
    advice: str
    """What to do now."""
    cases: Sequence[Case]

    @property
    def images(self) -> int:
        """Count the images that are concerned."""
        return sum(len(case.pictures) for case in self.cases)

    @property
    def extent(self) -> str:
        """Say how many."""
        count, images = len(self.cases), self.images
        if not images:
            return str(count)
        if images == count:
            return f"{images} image{'s' * (images != 1)}"
        kind = "pair" if images == 2 * count else "group"
        return f"{count} {kind}{'s' * (count != 1)}" + ("" if kind == "pair" else f" of {images} images")

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "kind": self.kind,
            "title": self.title,
            "severity": self.severity,
            "count": len(self.cases),
            "images": self.images,
            "advice": self.advice,
            "cases": [case.to_json() for case in self.cases],
        }


@dataclass(frozen=True, kw_only=True)
class Checkup:
    """All that was found of a dataset."""

    dataset: str
    seed: int
    classes: tuple[str, ...]
    multi_label: bool
    images: Mapping[str, int]
    """In each split, those left out included."""
    findings: Sequence[Finding]
    """The worst first."""
    folder: str = ""
    """That all its files lie in, if they have one in common."""

    @property
    def contents(self) -> str:
        """Say how many images each split has."""
        return ", ".join(f"{count:,} in {split}" for split, count in self.images.items())

    @property
    def errors(self) -> list[Finding]:
        """Those that must be mended before a result on this dataset can be believed."""
        return [finding for finding in self.findings if finding.severity == ERROR]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "dataset": self.dataset,
            "folder": self.folder or None,
            "seed": self.seed,
            "multi_label": self.multi_label,
            "classes": list(self.classes),
            "images": dict(self.images),
            "healthy": not self.errors,
            "findings": [finding.to_json() for finding in self.findings],
        }
