"""Proving an artifact again: checksums, golden vectors, and every number of its report."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from zoo.catalogue.made.exporter import make_exporter
from zoo.contracts.precision import row_of
from zoo.evaluation.page import fragment, table
from zoo.exporting.compare import differing
from zoo.exporting.export import prove_again
from zoo.exporting.file import may_saturate
from zoo.exporting.golden import replay
from zoo.records.facts import facts
from zoo.records.find import run_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo.catalogue import Catalogue
    from zoo.records.artifact import Artifact
    from zoo.records.manifest import Report


@dataclass(frozen=True, kw_only=True)
class Reproof:
    """What came out the second time."""

    artifact: Artifact
    golden_difference: float
    golden_limit: float
    saturates: bool | None
    """Whether sums of int8 products may saturate on x86 without VNNI, found from the file now; None if it has none."""
    report: Report | None
    """The new measurements; None if only the golden vectors were replayed."""
    problems: tuple[str, ...]

    def _repr_html_(self) -> str:
        colour, told = ("bad", "; ".join(self.problems)) if self.problems else ("good", "nothing has changed")
        manifest = self.artifact.manifest()
        rows = [
            ("checksums", f"{len(manifest.files)} files unchanged"),
            ("golden answers", f"largest difference {self.golden_difference:.2g}, limit {self.golden_limit:g}"),
            *(facts(manifest, self.report) if self.report else []),
        ]
        head = f'<p class="big {colour}">{escape(told)}</p><p class="faint">{escape(str(self.artifact.path))}</p>'
        return fragment([head, table(("", ""), rows)])

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "artifact": str(self.artifact.path),
            "ok": not self.problems,
            "problems": list(self.problems),
            "golden_difference": self.golden_difference,
            "saturates_without_vnni": self.saturates,
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
    meant = artifact.meaning(catalogue)
    exporter = make_exporter(meant, meant.find("exporter", manifest.format))
    fresh = None if golden_only else prove_again(catalogue, run_of(artifact), artifact, note)
    if fresh:
        problems += differing(manifest.report, fresh)
        problems += [reason for reason in fresh.reasons if reason not in manifest.report.reasons]
    return Reproof(
        artifact=artifact,
        golden_difference=difference,
        golden_limit=limit,
        saturates=may_saturate(exporter, artifact.path / manifest.model_file),
        report=fresh,
        problems=tuple(problems),
    )
