"""An ONNX file behind a callable: the same session in the proof, on the command line and on the device."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from .beside import check_beside
from .metadata import metadata
from .processor import saturates
from .providers import CPU, open_session

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SUFFIX = ".onnx"
"""Of the files that it runs."""
ORT_SUFFIX = ".ort"
"""Of onnxruntime's own format, which minimal builds of it read."""
LAYOUTS = ("NchwcTransformer",)
"""What onnxruntime does for single kinds of processors: a file that was written so runs on no other."""
SESSION_KEY = "zoo.session"
"""Of the metadata entry in which a file asks for session options, as a JSON object."""
EXACT = "session.x64quantprecision"
"""The option with which weights beyond 64 become unsigned, whose products x86 without VNNI adds in 32 bits. Those up to
64 cannot saturate and stay as they are. With VNNI it makes the same bits and takes up to 4.7 times as long. A file that
asks for "0" says that no sum of its products saturates: it is exact everywhere, and as fast as it can be."""
OBEYED = frozenset({"session.disable_quant_qdq", EXACT})
"""The options that a file may ask for, as "0" or "1": a stranger's file must not choose libraries, files or memory."""
INTEGER_FUSIONS = (
    "DynamicQuantizeMatMulFusion",
    "MatMulIntegerToFloatFusion",
    "QDQS8ToU8Transformer",
    "QDQSelectorActionTransformer",
)
"""What makes one int8 operator of several."""


class OnnxPredictor:
    """Raw pixels, uint8 [N, H, W, 3], to probabilities, float32 [N, classes], in onnxruntime."""

    def __init__(self, model_file: Path, *, threads: int = 0, fused: bool = True, provider: str = CPU) -> None:
        """Load a file; where nothing is `fused`, int8 is rounded otherwise, about as other kinds of processors do.

        Raises:
            BundleError: the provider (`zoo.runtime.providers`) is unknown, or does not load here.
        """
        self._session = _session(model_file, threads=threads, fused=fused, provider=provider)
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

    Exact where it is written: without VNNI its weights become unsigned, for others as well, which reading cannot undo.

    Raises:
        Exception: onnxruntime cannot; it has a class of its own for each status.
    """
    _session(model_file, threads=1, out=out)


def session_options(*, threads: int = 0, asked: Mapping[str, str] | None = None) -> Any:
    """Return onnxruntime's options for a session whose int8 products are exact on this machine.

    Args:
        threads: Of the session; 0 for all cores.
        asked: Options that a file asks for.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    entries = {EXACT: "1", **(asked or {})}
    for name, value in entries.items():
        # Where products are exact, asking for it would only cost time.
        if name != EXACT or saturates():
            options.add_session_config_entry(name, value)
    return options


def _session(
    model_file: Path, *, threads: int, fused: bool = True, provider: str = CPU, out: Path | None = None
) -> Any:
    # onnxruntime's own format keeps all weights inside, and what a session was asked for is settled in it.
    own = model_file.suffix == ORT_SUFFIX
    if not own:
        check_beside(model_file)
    options = session_options(threads=threads, asked={} if own else asked_options(model_file))
    if out is not None:
        options.optimized_model_filepath = str(out)
        options.add_session_config_entry("session.save_model_format", "ORT")
    if not fused:
        return _unfused(model_file, options, provider)
    try:
        return open_session(str(model_file), options, provider=provider, without=LAYOUTS if out else ())
    except Exception:
        if own or out or not saturates():
            raise
        # Where EXACT is set, onnxruntime 1.31 makes a constant unsigned once for each operator that reads it, and stops
        # at the second ("Attempt to replace the existing tensor"). Of our files only a few for ARM have one.
        return _unfused(model_file, options, provider)


def _unfused(model_file: Path, options: Any, provider: str) -> Any:
    """Open a file so that what lies between two roundings is computed in float, and nothing there can saturate."""
    import onnxruntime

    level = onnxruntime.GraphOptimizationLevel
    # Dynamic products are int8 operators already; EXACT reaches them at the higher level, which fuses more of the rest.
    options.graph_optimization_level = level.ORT_ENABLE_EXTENDED if saturates() else level.ORT_ENABLE_BASIC
    return open_session(str(model_file), options, provider=provider, without=INTEGER_FUSIONS)


def asked_options(model_file: Path) -> dict[str, str]:
    """Return the session options that a file asks for, as far as they are obeyed; none if its notes are damaged."""
    try:
        asked = json.loads(metadata(model_file).get(SESSION_KEY, "{}"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(asked, dict):
        return {}
    return {name: value for name, value in asked.items() if name in OBEYED and value in ("0", "1")}
