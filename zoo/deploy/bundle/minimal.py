"""ONNX -> the files of a minimal onnxruntime: the model in its own format, and the operators that a build must hold."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.contracts.precision import row_of
from zoo.deploy.bundle.apart import run_apart
from zoo.errors import OptionInvalid, ProofFailed, first_line
from zoo.exporting.golden import replay
from zoo.runtime.session import OnnxPredictor, write_ort

if TYPE_CHECKING:
    from zoo.records.artifact import Artifact
    from zoo.records.manifest import Manifest

MODEL = "model.ort"
OPERATORS = "required_operators_and_types.config"
"""As onnxruntime's own tools call it; its build takes it with `--include_ops_by_config`."""
LIST = """
import pathlib, sys
from onnxruntime.tools.ort_format_model.utils import create_config_from_models
create_config_from_models([pathlib.Path(sys.argv[1])], pathlib.Path(sys.argv[2]), enable_type_reduction=True)
"""


def minimal_files(artifact: Artifact, manifest: Manifest) -> dict[str, bytes]:
    """Return the two files, once the golden images got the proof's answers from the first.

    Of the same artifact onnxruntime does not always write the same bytes: it keeps weights in any order.

    Raises:
        OptionInvalid: onnxruntime cannot write this model so.
        ProofFailed: it answers otherwise.
        EnvironmentBroken: onnxruntime's tools are not installed with it.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, MODEL)
        try:
            write_ort(artifact.path / manifest.model_file, out)
            difference = replay(artifact.golden(), OnnxPredictor(out, threads=manifest.report.threads))
        except Exception as exc:  # onnxruntime raises a class of its own for each status
            reason = first_line(exc)
            raise OptionInvalid(f"{artifact.path} cannot be written as {MODEL} ({reason}); leave --ort out") from exc
        if difference > (limit := row_of(manifest.precision).golden_limit):
            raise ProofFailed(f"{MODEL} of {artifact.path} moves golden answers by {difference:.2g}, limit {limit:g}")
        return {MODEL: out.read_bytes(), OPERATORS: _operators(out)}


def _operators(file: Path) -> bytes:
    out = file.with_name(OPERATORS)
    # In a process of its own, since it sets up logging and leaves the file open.
    run_apart(LIST, str(file), str(out), failed="onnxruntime's tools do not work here")
    lines = [line for line in out.read_text().splitlines() if not line.startswith("#")]
    return "\n".join([f"# What {MODEL} needs of onnxruntime.", *lines, ""]).encode()
