"""OpenVINO's CPU runtime behind a function from pixels to probabilities."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    import openvino


class OpenVinoPredictor:
    """Answers one batch at a time, whichever threads they come from; `threads=0` leaves their number to OpenVINO."""

    def __init__(self, model: openvino.Model, *, threads: int = 0) -> None:
        import openvino

        # Where the CPU has bf16, openvino would compute in it, and the answers would depend on the machine.
        config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if threads:
            config["INFERENCE_NUM_THREADS"] = threads
        self._compiled = openvino.Core().compile_model(model, "CPU", config)
        self._busy = threading.Lock()

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Answer as `zoo.plugin.Predictor` says."""
        if not len(images):  # openvino would give the answers of the batch before
            return self(np.zeros((1, *images.shape[1:]), np.uint8))[:0]
        with self._busy:
            (probabilities,) = self._compiled(np.ascontiguousarray(images)).values()
        return np.asarray(probabilities)


def read(model_file: Path) -> openvino.Model:
    """Read a model file and its .bin.

    Raises:
        OSError: one of the files cannot be read.
        RuntimeError: openvino does not take them.
    """
    import openvino

    # Both through memory: for a path openvino maps the .bin, whose later change would change the answers, and offers a
    # file that is no OpenVINO model to frontends that write to the terminal.
    return openvino.Core().read_model(
        model=model_file.read_bytes(), weights=model_file.with_suffix(".bin").read_bytes()
    )
