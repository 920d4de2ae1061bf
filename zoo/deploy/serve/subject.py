"""What is served: a model, unchanged since its proof, that has just given its golden answers in this process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.errors import ArtifactInvalid, ProofFailed, ZooError
from zoo.runtime.errors import BundleError
from zoo.runtime.golden import Replay, replay
from zoo.runtime.model import Model
from zoo.runtime.providers import CPU
from zoo.runtime.session import SUFFIX, OnnxPredictor

if TYPE_CHECKING:
    from pathlib import Path

TOLD = ("format", "precision", "target", "input", "output", "classes", "multi_label", "thresholds", "preprocess")
"""Of the manifest, by GET /v1/model; the lineage would name folders of the machine that trained it."""
REPORTED = (
    "split",
    "images",
    "reference_top1",
    "artifact_top1",
    "drop",
    "drop_interval",
    "verdict",
    "bound",
    "size_bytes",
    "latency_ms",
)


@dataclass(frozen=True)
class Subject:
    """A model that may be served."""

    model: Model
    sha256: str
    """Of the model file: what an answer names as its source."""
    replay: Replay
    provider: str = CPU
    """Of onnxruntime: what runs it."""

    def about(self) -> dict[str, Any]:
        """Return what a client may want to know, as plain values."""
        values = self.model.manifest.values
        return {
            "sha256": self.sha256,
            **{name: values[name] for name in TOLD if name in values},
            "resizes": self.model.manifest.resizes,
            "tells_unknown": self.model.manifest.tells_unknown,
            "threads": self.model.threads,
            "provider": self.provider,
            "licenses": values.get("licenses", {}),
            "report": {name: values["report"][name] for name in REPORTED if name in values["report"]},
            "golden": self.replay.to_json(),
        }


def load(path: Path, *, threads: int | None, provider: str = CPU, registry: Path | None = None) -> Subject:
    """Load an artifact, or an unpacked bundle, and replay its golden vectors.

    Args:
        path: Its folder, or a link to it.
        threads: Of its runtime; None for as many as in its proof.
        provider: Of onnxruntime, a word of `zoo.runtime.providers`.
        registry: As the command line was given it; for formats that only a plugin can open.

    Raises:
        ArtifactInvalid: it is missing, damaged, was refused by its proof, or does not load.
        ProofFailed: it does not give its golden answers here.
    """
    # One look: a link that moves meanwhile must not mix the files of two models.
    folder = path.resolve()

    def open_file(file: Path, *, threads: int) -> Any:
        if file.suffix == SUFFIX:
            return OnnxPredictor(file, threads=threads, provider=provider)
        if provider != CPU:
            raise ArtifactInvalid(f"{file} is no ONNX file and runs on no provider but {CPU}; leave --provider out")
        return _by_plugin(file, threads, registry)

    try:
        model = Model(folder, threads=threads, open_file=open_file)
        if folder.name.endswith(".rejected") or not model.manifest.values["report"]["accepted"]:
            raise ArtifactInvalid(f"{path} was refused by its proof; serve an accepted artifact")
        found = replay(model)
    except BundleError as exc:
        raise ArtifactInvalid(str(exc)) from exc
    except ZooError:
        raise
    except Exception as exc:  # a manifest may hold anything, a runtime raise anything
        raise ArtifactInvalid(f"{path} cannot be served ({type(exc).__name__}: {exc}); export it again") from exc
    if not found.ok:
        raise ProofFailed(f"{path}: {found}")
    return Subject(model, model.manifest.values["files"][model.manifest.model_file], found, provider)


def _by_plugin(file: Path, threads: int, registry: Path | None) -> Any:
    """Open a model file with the exporter that made it."""
    from zoo.catalogue import Catalogue
    from zoo.records.artifact import Artifact

    return Artifact(file.parent).open(Catalogue.read(registry), threads=threads)
