"""Static int8 quantization of an ONNX graph by onnxruntime: all but the preprocessing and the probabilities."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import OptionInvalid
from zoo_exporters.calibration import calibration_batches
from zoo_exporters.onnx_graph import INPUT, OUTPUT, name_nodes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from onnx import GraphProto, ModelProto, NodeProto

    from zoo.plugin import ExportRequest

METHODS = {"minmax": "MinMax", "percentile": "Percentile", "entropy": "Entropy"}
"""The user's word for a way to find ranges, and onnxruntime's."""
PRODUCTS = ("Conv", "Gemm", "MatMul")
PROBABILITIES = frozenset({"Softmax", "Sigmoid"})
PERCENTILE = 99.9
ORT_WARNING, ORT_FATAL = 2, 4
"""onnxruntime's usual level of logging, and the highest."""


def calibration_method(options: Mapping[str, object]) -> str:
    """Return the option `calibration_method`, checked.

    Raises:
        OptionInvalid: it is none of `METHODS`.
    """
    method = options.get("calibration_method", "minmax")
    if not isinstance(method, str) or method not in METHODS:
        raise OptionInvalid(
            f"calibration_method={method!r} is unknown to the onnx exporter; use one of {', '.join(METHODS)}"
        )
    return method


def quantize(model: ModelProto, request: ExportRequest, method: str) -> ModelProto:
    """Return `model` with int8 weights (per channel) and uint8 activations, in QDQ form."""
    import onnx

    with tempfile.TemporaryDirectory(prefix="zoo-int8-") as folder, _silent_sessions():
        source, prepared, result = (Path(folder, f"{name}.onnx") for name in ("fp32", "prepared", "int8"))
        onnx.save(model, source)
        _prepare(source, prepared)
        _quantize_static(prepared, result, request, method)
        quantized = onnx.load(result)
    keep_logits_float(quantized.graph)
    return quantized


@contextlib.contextmanager
def _silent_sessions() -> Iterator[None]:
    # The quantizer makes sessions of its own, whose C++ side writes to the terminal behind sys.stderr's back.
    import onnxruntime

    onnxruntime.set_default_logger_severity(ORT_FATAL)
    try:
        yield
    finally:
        onnxruntime.set_default_logger_severity(ORT_WARNING)


def _prepare(source: Path, prepared: Path) -> None:
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    try:
        quant_pre_process(str(source), str(prepared))
    except Exception:  # the symbolic inference raises whatever comes up; several families are beyond it
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    model = onnx.load(prepared)
    name_nodes(model.graph)
    onnx.save(model, prepared)


def _quantize_static(prepared: Path, result: Path, request: ExportRequest, method: str) -> None:
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    graph = onnx.load(prepared).graph
    attention = products_of_activations(graph)
    left_out = {*preprocessing(graph), *(node.name for node in probabilities(graph)), *attention}
    # In strides of one batch the calibrator keeps the activations of a single batch.
    extra: dict[str, Any] = {"CalibStridedMinMax": 1, "CalibPercentile": PERCENTILE}
    if attention:
        # Transformers have outliers that int8 cannot hold: only products with weights, and those with float results.
        extra["OpTypesToExcludeOutputQuantization"] = list(PRODUCTS)
    quantize_static(
        str(prepared),
        str(result),
        CalibrationReader(list(calibration_batches(request)), one_by_one=method != "minmax"),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=list(PRODUCTS) if attention else None,
        calibrate_method=CalibrationMethod[METHODS[method]],
        nodes_to_exclude=sorted(left_out),
        extra_options=extra,
    )


class CalibrationReader:
    """Hands batches to onnxruntime's calibrator, in the slices that it asks for.

    The histogram methods keep every activation of a slice, so they get one image at a time.
    """

    def __init__(self, batches: list[np.ndarray], *, one_by_one: bool) -> None:
        self._batches = [image[None] for batch in batches for image in batch] if one_by_one else batches
        self._slice = iter(self._batches)

    def __len__(self) -> int:
        return len(self._batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Start over, with batches from `start_index` up to `end_index`."""
        self._slice = iter(self._batches[start_index:end_index])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next feed, or None at the end of the slice."""
        batch = next(self._slice, None)
        return None if batch is None else {INPUT: batch}


def preprocessing(graph: GraphProto) -> set[str]:
    """Name the nodes that see pixels and nothing that a convolution or matrix product made of them."""
    pixels, features = {INPUT}, set[str]()
    names = set()
    for node in graph.node:  # ONNX demands topological order
        if node.op_type in PRODUCTS or features.intersection(node.input):
            features.update(node.output)
        elif pixels.intersection(node.input):
            pixels.update(node.output)
            names.add(node.name)
    return names


def probabilities(graph: GraphProto) -> list[NodeProto]:
    """Return the nodes from the output back to the softmax or sigmoid that makes it; none if there is no such node."""
    makers = _makers(graph)
    found: list[NodeProto] = []
    node = makers.get(OUTPUT)
    while node is not None and node.op_type not in PRODUCTS:
        found.append(node)
        if node.op_type in PROBABILITIES:
            return found
        node = makers.get(node.input[0])
    return []


def keep_logits_float(graph: GraphProto) -> None:
    """Take out the rounding of the logits: it makes close classes equal, and float costs no time there."""
    makers = _makers(graph)
    for softmax in probabilities(graph)[-1:]:
        dequantize = makers.get(softmax.input[0])
        quantize = makers.get(dequantize.input[0]) if dequantize and dequantize.op_type == "DequantizeLinear" else None
        if dequantize and quantize and quantize.op_type == "QuantizeLinear":
            softmax.input[0] = quantize.input[0]
            _remove_if_unused(graph, [dequantize, quantize])


def _makers(graph: GraphProto) -> dict[str, NodeProto]:
    return {output: node for node in graph.node for output in node.output}


def _remove_if_unused(graph: GraphProto, nodes: list[NodeProto]) -> None:
    for node in nodes:
        if not any(name in other.input for other in graph.node for name in node.output):
            graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)


def products_of_activations(graph: GraphProto) -> set[str]:
    """Name the MatMuls without a constant factor, as attention has them."""
    constants = {tensor.name for tensor in graph.initializer}
    constants.update(output for node in graph.node if node.op_type == "Constant" for output in node.output)
    return {node.name for node in graph.node if node.op_type == "MatMul" and constants.isdisjoint(node.input)}
