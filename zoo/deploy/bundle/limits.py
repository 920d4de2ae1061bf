"""Whether a target can take a model file: what registry.toml says of the device, held against the file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from zoo.deploy.bundle.apart import run_apart
from zoo.runtime.metadata import model_versions
from zoo.runtime.session import SUFFIX

if TYPE_CHECKING:
    from zoo.contracts.target import Target
    from zoo.records.artifact import Artifact
    from zoo.records.manifest import Manifest

LOAD = """
import json, sys
from zoo.runtime.measure import first_answer, peak_memory_mb
first_answer(sys.argv[1])
print(json.dumps(peak_memory_mb()))
"""


def why_not(artifact: Artifact, manifest: Manifest, target: Target) -> list[str]:
    """Return why the target cannot take an artifact; empty if it can."""
    file = artifact.path / manifest.model_file
    if file.suffix != SUFFIX:
        return [f"the device's runtime runs {SUFFIX} files, not {file.suffix}; export with --onnx"]
    found = []
    if target.precisions and manifest.precision not in target.precisions:
        found.append(f"it runs {', '.join(target.precisions)}, not {manifest.precision}")
    ir_version, opset = model_versions(file)
    if ir_version > target.ir_version:
        found.append(f"it takes IR {target.ir_version} at most, the file has {ir_version}")
    if opset > target.opset:
        found.append(f"it takes opset {target.opset} at most, the file has {opset}")
    needed = memory_mb(artifact) if target.memory_mb and not found else None
    if needed and needed > target.memory_mb:
        found.append(f"it has {target.memory_mb} MB of memory, and one image takes {needed:.0f} MB")
    return found


def memory_mb(artifact: Artifact) -> float | None:
    """Return the most memory of a process that answers one image in the device's runtime, measured here.

    Raises:
        EnvironmentBroken: it does not run.
    """
    told = run_apart(LOAD, str(artifact.path.resolve()), failed=f"{artifact.path} does not run here")
    peak: float | None = json.loads(told)
    return peak
