"""Watching an fp32 graph at work, and choosing the range of each tensor that int8 shall cover."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import OptionInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from onnx import ModelProto

Range = tuple[float, float]

SAMPLES = 2048
"""Values kept of each tensor from each image: enough for a 99.99th percentile over 64 images."""
MOST_BYTES = 2**28
"""Of activations held at once."""
MOST_VALUES = 2**14
"""Of a tensor, that a range is tried on."""
SHRINKINGS = np.geomspace(1.0, 0.1, 24)
LEVELS = 256
BINS = 2048


@dataclass
class Seen:
    """What one tensor held over the calibration images."""

    low: float
    high: float
    samples: list[np.ndarray]
    """float32 [SAMPLES] of each image, drawn evenly."""


def watch(model: ModelProto, batches: Iterable[np.ndarray], *, seed: int) -> dict[str, Seen]:
    """Run uint8 [n, H, W, 3] through the graph and note what every float tensor in it holds.

    Args:
        model: In fp32.
        batches: Calibration images.
        seed: Draws which values are kept.
    """
    rng = np.random.default_rng(seed)
    seen: dict[str, Seen] = {}
    for count, activations in _activations(model, batches):
        for name, values in activations.items():
            # Windows and heads are folded into the first axis.
            rows = values.reshape(count if values.size % count == 0 else 1, -1)
            if not rows.size:
                continue
            found = seen.setdefault(name, Seen(np.inf, -np.inf, []))
            found.low, found.high = min(found.low, float(rows.min())), max(found.high, float(rows.max()))
            drawn = rng.integers(0, rows.shape[1], min(SAMPLES, rows.shape[1]))
            found.samples += list(rows[:, drawn])
    return seen


def channel_means(model: ModelProto, batches: Iterable[np.ndarray], tensors: Iterable[str]) -> dict[str, np.ndarray]:
    """Return the mean of each channel over images, float64 [C], of tensors [N, C, H, W] and [..., C]."""
    sums: dict[str, list[np.ndarray]] = {}
    for _, activations in _activations(model, batches, only=frozenset(tensors)):
        for name, values in activations.items():
            axes = (0, 2, 3) if values.ndim == 4 else tuple(range(values.ndim - 1))
            sums.setdefault(name, []).append(values.mean(axes, dtype=np.float64))
    return {name: np.mean(means, 0) for name, means in sums.items()}


def ranges(seen: Mapping[str, Seen], calibrator: str) -> dict[str, Range]:
    """Return low and high of each tensor, by one of `CALIBRATORS`."""
    return {name: CALIBRATORS[calibrator](found) for name, found in seen.items()}


def _minmax(seen: Seen) -> Range:
    return seen.low, seen.high


def _percentile(seen: Seen) -> Range:
    low, high = np.percentile(np.concatenate(seen.samples), (0.01, 99.99))
    return float(low), float(high)


def _mse(seen: Seen) -> Range:
    """Take the range whose rounding and clipping cost the least squared error."""
    return _best_range(seen, lambda values, low, high: float(np.square(values - _rounded(values, low, high)).mean()))


def _entropy(seen: Seen) -> Range:
    """Take the range that keeps the most of the distribution (Migacz, "8-bit inference with TensorRT", GTC 2017)."""
    return _best_range(seen, _divergence)


CALIBRATORS: dict[str, Callable[[Seen], Range]] = {
    "minmax": _minmax,
    "percentile": _percentile,
    "mse": _mse,
    "entropy": _entropy,
}
"""The word for a way to choose ranges -> the way."""


def calibrator_of(options: Mapping[str, object]) -> str:
    """Return the option `calibration_method`; empty if the search may choose.

    Raises:
        OptionInvalid: it is neither "auto" nor one of `CALIBRATORS`.
    """
    method = options.get("calibration_method", "auto")
    if not isinstance(method, str) or method not in ("auto", *CALIBRATORS):
        raise OptionInvalid(
            f"calibration_method={method!r} is unknown to the onnx exporter; use one of auto, {', '.join(CALIBRATORS)}"
        )
    return "" if method == "auto" else method


def _best_range(seen: Seen, loss: Callable[[np.ndarray, float, float], float]) -> Range:
    values = np.concatenate(seen.samples)
    # Zeros are exact in any range, and there are so many that they would hide what is lost of the rest.
    values = values[values != 0]
    values = values[:: max(1, len(values) // MOST_VALUES)]
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    if not len(values):
        return low, high
    # One end after the other: the distributions behind an activation function are one-sided.
    high = min((high * float(s) for s in SHRINKINGS), key=lambda end: loss(values, low, end)) if high else high
    low = min((low * float(s) for s in SHRINKINGS), key=lambda end: loss(values, end, high)) if low else low
    return low, high


def _rounded(values: np.ndarray, low: float, high: float) -> np.ndarray:
    step = max(high - low, 1e-12) / (LEVELS - 1)
    rounded: np.ndarray = np.round(values.clip(low, high) / step) * step
    return rounded


def _divergence(values: np.ndarray, low: float, high: float) -> float:
    edges = np.linspace(min(float(values.min()), low), max(float(values.max()), high) + 1e-9, BINS + 1)
    inside = values[(values >= low) & (values <= high)]
    held = np.histogram(values.clip(low, high), edges)[0].astype(np.float64)
    levels = np.histogram(inside, LEVELS, (low, max(high, low + 1e-9)))[0].astype(np.float64)
    bins = np.histogram(inside, edges)[0]
    level_of_bin = ((edges[:-1] - low) / max(high - low, 1e-9) * LEVELS).astype(int).clip(0, LEVELS - 1)
    spread = np.where(bins > 0, 1.0, 0.0)
    share = np.bincount(level_of_bin, spread, LEVELS)[level_of_bin]
    kept = np.where(spread > 0, levels[level_of_bin] / np.maximum(share, 1), 0.0)
    p, q = held / held.sum() + 1e-9, kept / max(kept.sum(), 1e-12) + 1e-9
    return float((p * np.log(p / q)).sum())


def _activations(
    model: ModelProto, batches: Iterable[np.ndarray], *, only: frozenset[str] = frozenset()
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Yield a number of images, and name -> value of every float tensor that nodes make, or of `only` those."""
    import onnxruntime

    named = _float_tensors(model)
    wanted = [name for name in named if name in only or not only]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Else tensors are fused away that int8 will have.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        _with_outputs(model, wanted).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    source, at_once = session.get_inputs()[0].name, 1
    for batch in batches:
        begin = 0
        while begin < len(batch):
            part = batch[begin : begin + at_once]
            found = dict(zip(wanted, session.run(wanted, {source: part}), strict=True))
            begin += len(part)
            at_once = max(1, MOST_BYTES * len(part) // max(sum(values.nbytes for values in found.values()), 1))
            yield len(part), {name: values for name, values in found.items() if values.ndim}


def _float_tensors(model: ModelProto) -> list[str]:
    import onnx

    graph = onnx.shape_inference.infer_shapes(model).graph
    types = {value.name: value.type.tensor_type.elem_type for value in [*graph.value_info, *graph.output]}
    made = [output for node in model.graph.node if node.op_type != "Constant" for output in node.output]
    return [name for name in made if types.get(name) == onnx.TensorProto.FLOAT]


def _with_outputs(model: ModelProto, names: Iterable[str]) -> ModelProto:
    import onnx

    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names
    )
    return watched
