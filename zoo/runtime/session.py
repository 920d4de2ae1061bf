"""An ONNX file behind a callable: the same session in the proof, on the command line and on the device."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from .beside import check_beside
from .metadata import metadata

if TYPE_CHECKING:
    from pathlib import Path

SUFFIX = ".onnx"
"""Of the files that it runs."""
SESSION_KEY = "zoo.session"
"""Of the metadata entry in which a file asks for session options, as a JSON object."""
OBEYED = frozenset({"session.disable_quant_qdq"})
"""The options that a file may ask for, as "0" or "1": a stranger's file must not choose libraries, files or memory."""


class OnnxPredictor:
    """Raw pixels, uint8 [N, H, W, 3], to probabilities, float32 [N, classes], in onnxruntime on the CPU."""

    def __init__(self, model_file: Path, *, threads: int = 0, portable: bool = False) -> None:
        """Load a file; `portable` leaves out the layouts that onnxruntime has for single kinds of processors."""
        import onnxruntime

        check_beside(model_file)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if portable:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        for name, value in asked_options(model_file).items():
            options.add_session_config_entry(name, value)
        self._session = onnxruntime.InferenceSession(str(model_file), options, providers=["CPUExecutionProvider"])
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


def asked_options(model_file: Path) -> dict[str, str]:
    """Return the session options that a file asks for, as far as they are obeyed; none if its notes are damaged."""
    try:
        asked = json.loads(metadata(model_file).get(SESSION_KEY, "{}"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(asked, dict):
        return {}
    return {name: value for name, value in asked.items() if name in OBEYED and value in ("0", "1")}
