"""The same graph with fewer nodes: what never changes is computed now, what nobody reads goes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo_exporters.onnx.graph import INPUT, is_large, save

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnx import GraphProto, ModelProto, NodeProto

UNFORESEEABLE = frozenset(
    {"If", "Loop", "Scan", "NonZero", "Unique", "Compress", "NonMaxSuppression", "Bernoulli", "Multinomial"}
    | {f"Random{kind}{like}" for kind in ("Normal", "Uniform") for like in ("", "Like")}
)
"""After these a shape may depend on more than the batch."""
BATCHES = (1, 2)
OBSERVED = "zoo_observed_"


def simplified(model: ModelProto, pictures: np.ndarray) -> ModelProto:
    """Return an equal graph: shapes as constants, batch norms inside convolutions, no node without a reader.

    Args:
        model: From `INPUT`, uint8 [N, H, W, 3]; it is changed.
        pictures: At least two of them, uint8 [n, H, W, 3], to observe shapes with.
    """
    with tempfile.TemporaryDirectory(prefix="zoo-onnx-") as name:
        folder = Path(name)
        arithmetic = _shape_arithmetic(model.graph)
        beside = {id(node) for node in arithmetic}
        if UNFORESEEABLE.isdisjoint(node.op_type for node in model.graph.node if id(node) not in beside):
            fold_shapes(model, arithmetic, pictures, folder)
        drop_unread(model.graph)
        return _optimised(model, folder)


def fold_shapes(model: ModelProto, arithmetic: Sequence[NodeProto], pictures: np.ndarray, folder: Path) -> None:
    """Replace `arithmetic`, computed from shapes alone, by constants, where it is the same at every batch size.

    A trace reads shapes from its tensors as it goes; with height and width fixed, only the batch is left of them, and
    a Reshape can infer that. Quantizers, shape inference and other runtimes then have an easier graph, too.
    """
    from onnx import numpy_helper

    graph = model.graph
    computed = dict.fromkeys(output for node in arithmetic for output in node.output if output)
    reshapes = [node for node in graph.node if node.op_type == "Reshape" and node.input[1] in computed]
    values = _observed(model, list(computed), [node.output[0] for node in reshapes], (pictures, folder))
    fixed = {name for name in computed if _same(values[name])}
    gone = {id(node) for node in arithmetic if fixed.issuperset(output for output in node.output if output)}
    constants = [output for node in arithmetic if id(node) in gone for output in node.output if output]
    graph.initializer.extend(numpy_helper.from_array(values[name][0], name) for name in constants)
    for index, node in enumerate(reshapes):
        few, more = values[OBSERVED + node.output[0]]
        if node.input[1] not in fixed and few.shape == more.shape and (few != more).sum() == 1:
            node.input[1] = f"{OBSERVED}{index}"
            graph.initializer.append(numpy_helper.from_array(np.where(few == more, few, -1), node.input[1]))
    _keep(graph, [node for node in graph.node if id(node) not in gone])


def drop_unread(graph: GraphProto) -> None:
    """Remove nodes whose results nobody reads, and then constants."""
    kept, read = [], {output.name for output in graph.output}
    for node in reversed(graph.node):
        if not read.isdisjoint(node.output):
            kept.append(node)
            read.update(_names_read(node))
    _keep(graph, kept[::-1])
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name not in read:
            del graph.initializer[index]


def _keep(graph: GraphProto, nodes: Sequence[NodeProto]) -> None:
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def _names_read(node: NodeProto) -> set[str]:
    """Return the tensors that a node reads, and those from outside that the branches of an If or Loop read."""
    names = set(node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            inside = {output for inner in graph.node for output in inner.output}
            inside.update(tensor.name for tensor in (*graph.initializer, *graph.input))
            reads = {name for inner in graph.node for name in _names_read(inner)}
            names |= (reads | {output.name for output in graph.output}) - inside
    return names


def _shape_arithmetic(graph: GraphProto) -> list[NodeProto]:
    """Return the nodes that see nothing but shapes and constants, in the graph's order."""
    constants = {"", *(tensor.name for tensor in graph.initializer)}
    constants.update(output for node in graph.node if node.op_type == "Constant" for output in node.output)
    known: set[str] = set()
    found = []
    for node in graph.node:
        read = _names_read(node)
        from_shapes = not known.isdisjoint(read) and (known | constants).issuperset(read)
        if node.op_type in ("Shape", "Size") or from_shapes:
            found.append(node)
            known.update(output for output in node.output if output)
    return found


def _observed(
    model: ModelProto, tensors: Sequence[str], shapes_of: Sequence[str], at: tuple[np.ndarray, Path]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the value of each of `tensors`, and under `OBSERVED` + name the shape of others, at both `BATCHES`."""
    from onnx import ValueInfoProto, helper

    pictures, folder = at
    graph = model.graph
    nodes, outputs = len(graph.node), len(graph.output)
    wanted = [*tensors, *(OBSERVED + name for name in dict.fromkeys(shapes_of))]
    if not wanted:
        return {}
    graph.node.extend(helper.make_node("Shape", [name], [OBSERVED + name]) for name in dict.fromkeys(shapes_of))
    graph.output.extend(ValueInfoProto(name=name) for name in wanted if name not in {o.name for o in graph.output})
    try:
        session = _session(save(model, folder / "observed.onnx"), "ORT_DISABLE_ALL")
    finally:
        del graph.node[nodes:], graph.output[outputs:]
    few, more = (session.run(wanted, {INPUT: pictures[:batch]}) for batch in BATCHES)
    return {name: (np.asarray(a), np.asarray(b)) for name, a, b in zip(wanted, few, more, strict=True)}


def _same(values: tuple[np.ndarray, np.ndarray]) -> bool:
    few, more = values
    return few.shape == more.shape and np.array_equal(few, more)


def _optimised(model: ModelProto, folder: Path) -> ModelProto:
    """Let onnxruntime do what holds on every machine: its level BASIC keeps to the operators of the standard."""
    import onnx

    before, after = save(model, folder / "before.onnx"), folder / "after.onnx"
    _session(before, "ORT_ENABLE_BASIC", after, large=is_large(model))
    return onnx.load(after)


def _session(file: Path, level: str, written: Path | None = None, *, large: bool = False) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    if written:
        options.optimized_model_filepath = str(written)
    if written and large:
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", written.name + "_")
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
