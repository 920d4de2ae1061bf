"""An fp32 graph -> an equal one that quantizes well: constants folded, pooling as pooling, activations in one piece."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo_exporters.onnx.graph import name_nodes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import ModelProto, NodeProto

SPATIAL = ({2, 3}, {-2, -1})
ACTIVATIONS = frozenset({"Gelu", "QuickGelu"})
"""What onnxruntime may make of several nodes: GELU, and SiLU as QuickGelu. Left in pieces, each piece would read an
int8 tensor of its own, and onnxruntime would not put them together again: efficientnet_b0 took 1.3 times as long."""
OTHER_FUSIONS = (
    "AttentionFusion",
    "BiasDropoutFusion",
    "BiasGeluFusion",
    "BiasSoftmaxFusion",
    "ConvActivationFusion",
    "ConvAddActivationFusion",
    "FastGeluFusion",
    "GeluApproximation",
    "GemmActivationFusion",
    "MatMulActivationFusion",
    "MatMulScaleFusion",
    "MatmulTransposeFusion",
    "MatMulTransposeFusion",
    "SkipLayerNormFusion",
)
"""They would hide products from the quantizer; onnxruntime does them when it loads the file."""
ORT_WARNING, ORT_FATAL = 2, 4
"""onnxruntime's usual level of logging, and the highest."""


def prepare(model: ModelProto) -> ModelProto:
    """Return a graph with the same answers, up to rounding, whose nodes have names of their own."""
    import onnx

    with tempfile.TemporaryDirectory(prefix="zoo-int8-") as folder:
        source, result = Path(folder, "fp32.onnx"), Path(folder, "prepared.onnx")
        onnx.save(model, source)
        _preprocess(source, result)
        prepared = onnx.load(result)
        pool_as_pooling(prepared)
        return _with_whole_activations(prepared, Path(folder, "fused.onnx"))


@contextlib.contextmanager
def silent_sessions() -> Iterator[None]:
    """Keep onnxruntime from the terminal: the quantizer's own sessions write behind sys.stderr's back."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(ORT_FATAL)
    try:
        yield
    finally:
        onnxruntime.set_default_logger_severity(ORT_WARNING)


def pool_as_pooling(model: ModelProto) -> None:
    """Write means over height and width as GlobalAveragePool, which has an int8 kernel where ReduceMean has none."""
    from onnx import numpy_helper

    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer if len(tensor.dims) < 2}
    for node in model.graph.node:
        if node.op_type == "ReduceMean" and _spatial_mean(node, values):
            node.op_type = "GlobalAveragePool"
            del node.attribute[:]
            del node.input[1:]


def _spatial_mean(node: NodeProto, values: dict[str, Any]) -> bool:
    from onnx import helper

    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    axes = given.get("axes", values.get(node.input[1]) if len(node.input) > 1 else None)
    return axes is not None and {int(axis) for axis in axes} in SPATIAL and given.get("keepdims", 1) == 1


def _preprocess(source: Path, result: Path) -> None:
    from onnxruntime.quantization.shape_inference import quant_pre_process

    # The symbolic inference leaves its half-done graph in the working folder where it gives up, as it does for several
    # families; with height and width fixed, the standard's own finds the same.
    quant_pre_process(str(source), str(result), skip_symbolic_shape=True)


def _with_whole_activations(model: ModelProto, file: Path) -> ModelProto:
    """Let onnxruntime fuse, and keep its graph only if nothing but activations became one of its own operators."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = ORT_FATAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(file)
    onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"], disabled_optimizers=list(OTHER_FUSIONS)
    )
    fused = onnx.load(file)
    own = {node.op_type for node in fused.graph.node if node.domain not in ("", "ai.onnx")}
    prepared = fused if own <= ACTIVATIONS else model
    name_nodes(prepared.graph)
    return prepared
