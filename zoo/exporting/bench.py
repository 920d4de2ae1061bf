"""Latency of several artifacts, or of one on several providers, interleaved, so that a busy machine favours none."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from zoo.errors import ArtifactInvalid, EnvironmentBroken, OptionInvalid
from zoo.runtime.errors import BundleError
from zoo.runtime.providers import CPU, check_provider
from zoo.runtime.session import SUFFIX, OnnxPredictor
from zoo.runtime.timing import interleave

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zoo.catalogue import Catalogue
    from zoo.contracts.plugins import Predictor
    from zoo.records.artifact import Artifact
    from zoo.records.manifest import Measured


@dataclass(frozen=True, kw_only=True)
class BenchResult:
    """One artifact's latency for one image."""

    name: str
    provider: str
    """Of onnxruntime: what ran it, such as "cpu" or "cuda"."""
    path: str
    size_bytes: int
    p50_ms: float
    p95_ms: float
    rounds: int
    speedup: float
    """Over the first result: the ratio of the 10th percentiles, measured in turn."""
    devices: tuple[Measured, ...] = ()
    """What devices found, brought back in their `artifact.json`."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "devices": [figures.model_dump(mode="json") for figures in self.devices]}


def bench_artifacts(
    catalogue: Catalogue,
    artifacts: Sequence[Artifact],
    *,
    threads: int,
    seconds: float,
    providers: Sequence[str] = (CPU,),
) -> list[BenchResult]:
    """Time artifacts that take the same input, each on every provider.

    Raises:
        ArtifactInvalid: one has changed since its proof, takes images of another size, or is no ONNX file and is
            asked to run on another provider than the processor.
        OptionInvalid: there is no such provider.
        EnvironmentBroken: a provider does not load here.
    """
    check_providers(providers)
    manifests = [artifact.manifest() for artifact in artifacts]
    for artifact, manifest in zip(artifacts, manifests, strict=True):
        if manifest.input != manifests[0].input:
            raise ArtifactInvalid(f"{artifact.path} takes another input than {artifacts[0].path}; bench them apart")
    # Keyed by what they are called, so that the same pair given twice is one row.
    pairs = {f"{a.path} on {p}": (a, m, p) for a, m in zip(artifacts, manifests, strict=True) for p in providers}
    predictors = {
        called: _opened(catalogue, artifact, provider, threads) for called, (artifact, _, provider) in pairs.items()
    }
    timings = interleave(predictors, artifacts[0].golden().images, seconds=seconds)
    first = next(iter(timings.values()))
    return [
        BenchResult(
            name=artifact.path.name,
            provider=provider,
            path=str(artifact.path),
            size_bytes=manifest.report.size_bytes,
            p50_ms=timings[called].p50,
            p95_ms=timings[called].p95,
            rounds=len(timings[called].rounds_ms),
            speedup=timings[called].speedup_over(first),
            devices=manifest.measured,
        )
        for called, (artifact, manifest, provider) in pairs.items()
    ]


def check_providers(providers: Sequence[str]) -> None:
    """Raise OptionInvalid unless each is a word of `zoo.runtime.providers`."""
    for provider in providers:
        try:
            check_provider(provider)
        except BundleError as exc:
            raise OptionInvalid(str(exc)) from exc


def _opened(catalogue: Catalogue, artifact: Artifact, provider: str, threads: int) -> Predictor:
    if provider == CPU:
        return artifact.open(catalogue, threads=threads)
    manifest = artifact.manifest()
    artifact.check_files(manifest)
    file = artifact.path / manifest.model_file
    if file.suffix != SUFFIX:
        raise ArtifactInvalid(
            f"{file} is no ONNX file, so it runs on no provider of onnxruntime but {CPU}; leave it out"
        )
    try:
        return OnnxPredictor(file, threads=threads, provider=provider)
    except BundleError as exc:
        raise EnvironmentBroken(str(exc)) from exc
