"""What every ONNX file of ours has in common, whatever its precision: names, versions, no trace of who made it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.errors import ExportUnsupported

if TYPE_CHECKING:
    from collections.abc import Iterable

    from onnx import GraphProto, ModelProto, ValueInfoProto

    from zoo.plugin import ExportRequest

INPUT = "image"
OUTPUT = "probabilities"
BATCH = "batch"
TRACES = frozenset({"doc_string", "metadata_props"})
"""Fields in which torch and onnxruntime keep source paths, stack traces and module names, at any depth."""


def seal(model: ModelProto, request: ExportRequest) -> bytes:
    """Return the bytes of the file: stripped, valid, in the target's versions, with the contract's names and axes.

    Raises:
        ExportUnsupported: the graph is not what the target or the contract needs.
    """
    import onnx

    strip(model)
    name_nodes(model.graph)
    model.ir_version = min(model.ir_version, request.target.ir_version)
    _keep_used_opsets(model)
    problems = [*_interface_problems(model.graph, request), *_opset_problems(model, request.target.opset)]
    if problems:
        raise ExportUnsupported(
            f"onnx {request.precision}: {'; '.join(problems)}; try --torchscript or another backbone"
        )
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


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

    height, width = request.preprocess.size
    return [
        *_differences("input", graph.input, (INPUT, TensorProto.UINT8, [BATCH, height, width, 3])),
        *_differences("output", graph.output, (OUTPUT, TensorProto.FLOAT, [BATCH, len(request.classes)])),
    ]


def _differences(side: str, found: Iterable[ValueInfoProto], wanted: tuple[str, int, list[str | int]]) -> list[str]:
    described = [_describe(value) for value in found]
    return [] if described == [wanted] else [f"its {side} came out as {described} instead of {wanted}"]


def _describe(value: ValueInfoProto) -> tuple[str, int, list[str | int]]:
    tensor = value.type.tensor_type
    return value.name, tensor.elem_type, [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
