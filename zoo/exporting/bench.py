"""Latency of several artifacts, interleaved, so that a busy machine favours none."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from zoo.errors import ArtifactInvalid
from zoo.runtime.timing import interleave

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zoo.catalogue import Catalogue
    from zoo.records.artifact import Artifact
    from zoo.records.manifest import Measured


@dataclass(frozen=True, kw_only=True)
class BenchResult:
    """One artifact's latency for one image."""

    name: str
    path: str
    size_bytes: int
    p50_ms: float
    p95_ms: float
    rounds: int
    speedup: float
    """Over the first artifact: the ratio of the 10th percentiles, measured in turn."""
    devices: tuple[Measured, ...] = ()
    """What devices found, brought back in their `artifact.json`."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "devices": [figures.model_dump(mode="json") for figures in self.devices]}


def bench_artifacts(
    catalogue: Catalogue, artifacts: Sequence[Artifact], *, threads: int, seconds: float
) -> list[BenchResult]:
    """Time artifacts that take the same input.

    Raises:
        ArtifactInvalid: one has changed since it was proven, or takes images of another size.
    """
    manifests = [artifact.manifest() for artifact in artifacts]
    for artifact, manifest in zip(artifacts, manifests, strict=True):
        if manifest.input != manifests[0].input:
            raise ArtifactInvalid(f"{artifact.path} takes another input than {artifacts[0].path}; bench them apart")
    predictors = {str(artifact.path): artifact.open(catalogue, threads=threads) for artifact in artifacts}
    timings = interleave(predictors, artifacts[0].golden().images, seconds=seconds)
    first = timings[str(artifacts[0].path)]
    return [
        BenchResult(
            name=artifact.path.name,
            path=str(artifact.path),
            size_bytes=manifest.report.size_bytes,
            p50_ms=timings[str(artifact.path)].p50,
            p95_ms=timings[str(artifact.path)].p95,
            rounds=len(timings[str(artifact.path)].rounds_ms),
            speedup=timings[str(artifact.path)].speedup_over(first),
            devices=manifest.measured,
        )
        for artifact, manifest in zip(artifacts, manifests, strict=True)
    ]
