"""What every ONNX file of ours has in common, whatever its precision: names, versions, no trace of who made it."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from zoo.errors import ExportUnsupported
from zoo.runtime.session import SESSION_KEY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto

    from zoo.plugin import ExportRequest

INPUT = "image"
OUTPUT = "probabilities"
UNKNOWN = "unknown"
BATCH = "batch"
ANY_SIZE = ("height", "width")
"""The free axes of a file that resizes."""
DATA_SUFFIX = ".data"
ONE_FILE_BYTES = 2**31 - 2**24
"""A protobuf message must stay below 2 GiB; of that 16 MiB are left for the graph itself."""
Described = tuple[str, int, list[str | int]]
"""Of an input or output: name, element type, axes."""
TRACES = frozenset({"doc_string", "metadata_props"})
"""Fields in which torch and onnxruntime keep source paths, stack traces and module names, at any depth."""


def seal(model: ModelProto, request: ExportRequest, session: Mapping[str, str]) -> None:
    """Make a model ready for `save`: stripped, valid, in the target's versions, with the contract's names and axes.

    Args:
        model: It is changed.
        request: What was asked for.
        session: `Made.session`, and what `noted` tells; the file asks zoo's runtime for these options itself.

    Raises:
        ExportUnsupported: the graph is not what the target or the contract needs.
    """
    import onnx

    strip(model)
    if session:
        onnx.helper.set_model_props(model, {SESSION_KEY: json.dumps(dict(session), sort_keys=True)})
    name_nodes(model.graph)
    model.ir_version = min(model.ir_version, request.target.ir_version)
    _keep_used_opsets(model)
    problems = [*_interface_problems(model.graph, request), *_opset_problems(model, request.target.opset)]
    if problems:
        raise ExportUnsupported(
            f"onnx {request.precision}: {'; '.join(problems)}; try --torchscript or another backbone"
        )
    if not is_large(model):  # a large one, which the checker takes only from a file, was run by onnxruntime
        onnx.checker.check_model(model, full_check=True)


def save(model: ModelProto, file: Path) -> Path:
    """Write `model` to `file` and return it; the weights of a large one go to a file beside it, with ".data" after it.

    Raises:
        OSError: the disk is full, or the place cannot be written to.
    """
    import onnx

    if is_large(model):
        beside = file.name + DATA_SUFFIX
        file.with_name(beside).unlink(missing_ok=True)  # onnx would append to it
        onnx.save_model(model, file, save_as_external_data=True, location=beside)
        # What was moved out of the model in memory comes back.
        onnx.load_external_data_for_model(model, str(file.parent))
    else:
        onnx.save_model(model, file)
    return file


def is_large(model: ModelProto) -> bool:
    """Tell whether a model is more than one protobuf message can hold."""
    return sum(tensor_bytes(tensor) for tensor in model.graph.initializer) > ONE_FILE_BYTES


def tensor_bytes(tensor: TensorProto) -> int:
    """Return the bytes that a constant takes."""
    from onnx import helper

    values, itemsize = math.prod(tensor.dims), helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return int(values * itemsize)


def output_names(request: ExportRequest) -> list[str]:
    """Return the names of what `request.model` gives, in its order."""
    return [OUTPUT, UNKNOWN] if request.unknown else [OUTPUT]


def strip(message: Any) -> None:
    """Clear every field of `TRACES` in a protobuf message and in all that it holds."""
    for field, value in message.ListFields():
        if field.name in TRACES:
            message.ClearField(field.name)
        elif field.type == field.TYPE_MESSAGE:
            for child in (value,) if hasattr(value, "ListFields") else value:
                strip(child)


def name_nodes(graph: GraphProto) -> None:
    """Give every node a name of its own; onnxruntime's quantizer leaves out nodes by name."""
    taken = {node.name for node in graph.node}
    seen = {""}
    for index, node in enumerate(graph.node):
        if node.name in seen:
            node.name = _free_name(f"{node.op_type}_{index}", taken)
        seen.add(node.name)
        taken.add(node.name)


def _free_name(wanted: str, taken: set[str]) -> str:
    while wanted in taken:
        wanted += "_"
    return wanted


def _keep_used_opsets(model: ModelProto) -> None:
    # onnxruntime writes every domain that it knows into a file; an older one may refuse a version that no node needs.
    used = {"ai.onnx" if not node.domain else node.domain for node in model.graph.node} | {"ai.onnx"}
    kept = [opset for opset in model.opset_import if (opset.domain or "ai.onnx") in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _opset_problems(model: ModelProto, ceiling: int) -> list[str]:
    return [
        f"it needs opset {opset.version} and the target stops at {ceiling}"
        for opset in model.opset_import
        if opset.domain in ("", "ai.onnx") and opset.version > ceiling
    ]


def _interface_problems(graph: GraphProto, request: ExportRequest) -> list[str]:
    from onnx import TensorProto

    batch: str | int = 1 if request.resize else BATCH
    outputs: list[Described] = [
        (OUTPUT, TensorProto.FLOAT, [batch, len(request.classes)]),
        (UNKNOWN, TensorProto.BOOL, [batch]),
    ]
    sides = ANY_SIZE if request.resize else request.preprocess.size
    return [
        *_differences("input", graph.input, [(INPUT, TensorProto.UINT8, [batch, *sides, 3])]),
        *_differences("output", graph.output, outputs[: len(output_names(request))]),
    ]


def _differences(side: str, found: Iterable[ValueInfoProto], wanted: list[Described]) -> list[str]:
    described = [_describe(value) for value in found]
    return [] if described == wanted else [f"its {side} came out as {described} instead of {wanted}"]


def _describe(value: ValueInfoProto) -> Described:
    tensor = value.type.tensor_type
    return value.name, tensor.elem_type, [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
