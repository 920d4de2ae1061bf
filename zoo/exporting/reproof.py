"""Proving an artifact again: checksums, golden vectors, and every number of its report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.contracts.precision import row_of
from zoo.exporting.compare import differing
from zoo.exporting.export import prove_again
from zoo.exporting.golden import replay
from zoo.records.find import run_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo.catalogue import Catalogue
    from zoo.records.artifact import Artifact
    from zoo.records.manifest import Report


@dataclass(frozen=True, kw_only=True)
class Reproof:
    """What came out the second time."""

    golden_difference: float
    golden_limit: float
    report: Report | None
    """The new measurements; None if only the golden vectors were replayed."""
    problems: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "ok": not self.problems,
            "problems": list(self.problems),
            "golden_difference": self.golden_difference,
            "report": self.report.model_dump(mode="json") if self.report else None,
        }


def verify_artifact(
    catalogue: Catalogue, artifact: Artifact, *, golden_only: bool, note: Callable[[str], None]
) -> Reproof:
    """Check an artifact as it lies on the disk against its own manifest.

    Raises:
        ArtifactInvalid: a file is missing, changed or unknown; or the run that it came from is not there.
    """
    manifest = artifact.manifest()
    limit = row_of(manifest.precision).golden_limit
    difference = replay(artifact.golden(), artifact.open(catalogue, threads=manifest.report.threads))
    problems = [] if difference <= limit else [f"golden vectors differ by {difference:.3g}, limit {limit:g}"]
    fresh = None if golden_only else prove_again(catalogue, run_of(artifact), artifact, note)
    if fresh:
        problems += differing(manifest.report, fresh)
        problems += [reason for reason in fresh.reasons if reason not in manifest.report.reasons]
    return Reproof(golden_difference=difference, golden_limit=limit, report=fresh, problems=tuple(problems))
