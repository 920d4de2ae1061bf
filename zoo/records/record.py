"""`run.json`: the record of a finished run."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

SCHEMA = 1


class RunRecord(BaseModel):
    """`run.json`: a run is finished exactly when this file exists."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    schema_version: int = Field(SCHEMA, alias="schema")
    model: str
    dataset: str
    classes: tuple[str, ...]
    multi_label: bool = False
    thresholds: dict[str, float] = {}
    """Label -> the probability from which on it is said, tuned on the validation images; only if multi-label."""
    class_weights: dict[str, float] = {}
    """Class -> what it weighed in the training loss; empty if all weighed the same."""
    teacher: dict[str, str | float] = {}
    """The run that taught this one: its folder, model, the SHA-256 of its weights and its best figure; mostly empty."""
    parent: dict[str, str | float] = {}
    """The run that this one went on from: its folder, the SHA-256 of its weights, their licence, its best figure."""
    preprocess: dict[str, Any]
    config: dict[str, Any]
    origins: dict[str, str] = {}
    chosen: dict[str, str | int] = {}
    """What `auto` came to: device, precision, layout, threads."""
    metrics: dict[str, Any]
    versions: dict[str, str]
    plugins: dict[str, str] = {}
    """Kind -> the distribution whose plugin the names above meant."""
    seed: int
    dataset_fingerprint: str = ""
    dataset_sizes: dict[str, int] = {}
    skipped_images: dict[str, str] = {}
    licenses: dict[str, str] = {}
    parameters: int = 0
    git_commit: str = ""
    created: str = ""


def now() -> str:
    """Return the time as ISO 8601, in UTC, to the microsecond: runs made within a second keep their order."""
    return datetime.now(UTC).isoformat()
