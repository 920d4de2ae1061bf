"""An ONNX file behind a callable: the same session in the proof, on the command line and on the device."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from .beside import check_beside
from .metadata import metadata

if TYPE_CHECKING:
    from pathlib import Path

SUFFIX = ".onnx"
"""Of the files that it runs."""
ORT_SUFFIX = ".ort"
"""Of onnxruntime's own format, which minimal builds of it read."""
LAYOUTS = ("NchwcTransformer",)
"""What onnxruntime does for single kinds of processors: a file that was written so runs on no other."""
SESSION_KEY = "zoo.session"
"""Of the metadata entry in which a file asks for session options, as a JSON object."""
OBEYED = frozenset({"session.disable_quant_qdq"})
"""The options that a file may ask for, as "0" or "1": a stranger's file must not choose libraries, files or memory."""


class OnnxPredictor:
    """Raw pixels, uint8 [N, H, W, 3], to probabilities, float32 [N, classes], in onnxruntime on the CPU."""

    def __init__(self, model_file: Path, *, threads: int = 0, fused: bool = True) -> None:
        """Load a file; where nothing is `fused`, int8 is rounded otherwise, about as other kinds of processors do."""
        self._session = _session(model_file, threads=threads, fused=fused)
        taken = self._session.get_inputs()[0]
        self._input, self._one_by_one = taken.name, taken.shape[:1] == [1]

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self._answers(None, images)[0]

    def with_unknown(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the probabilities, and which images are unknown, bool [N]; for files with the output `unknown`."""
        probabilities, unknown = self._answers(["probabilities", "unknown"], images)
        return probabilities, unknown

    def _answers(self, names: list[str] | None, images: np.ndarray) -> list[np.ndarray]:
        if not self._one_by_one or len(images) == 1:
            return [np.asarray(answer) for answer in self._session.run(names, {self._input: images})]
        # A file that resizes takes a single image, of whatever size.
        each = [self._session.run(names, {self._input: image[None]}) for image in images]
        return [np.concatenate(answers) for answers in zip(*each)]


def write_ort(model_file: Path, out: Path) -> None:
    """Write an ONNX file in onnxruntime's own format, optimised for no single kind of processor.

    Raises:
        Exception: onnxruntime cannot; it has a class of its own for each status.
    """
    _session(model_file, threads=1, out=out)


def _session(model_file: Path, *, threads: int, fused: bool = True, out: Path | None = None) -> Any:
    import onnxruntime

    # onnxruntime's own format keeps all weights inside, and what a session was asked for is settled in it.
    own = model_file.suffix == ORT_SUFFIX
    if not own:
        check_beside(model_file)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if not fused:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    if out is not None:
        options.optimized_model_filepath = str(out)
        options.add_session_config_entry("session.save_model_format", "ORT")
    for name, value in ({} if own else asked_options(model_file)).items():
        options.add_session_config_entry(name, value)
    return onnxruntime.InferenceSession(
        str(model_file), options, providers=["CPUExecutionProvider"], disabled_optimizers=LAYOUTS if out else ()
    )


def asked_options(model_file: Path) -> dict[str, str]:
    """Return the session options that a file asks for, as far as they are obeyed; none if its notes are damaged."""
    try:
        asked = json.loads(metadata(model_file).get(SESSION_KEY, "{}"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(asked, dict):
        return {}
    return {name: value for name, value in asked.items() if name in OBEYED and value in ("0", "1")}
