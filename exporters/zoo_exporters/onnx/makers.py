"""torch's two ways from a module to an ONNX graph: by a trace, and by torch.export (dynamo)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo_exporters.onnx.graph import BATCH, INPUT
from zoo_exporters.quiet import mute

if TYPE_CHECKING:
    import torch
    from onnx import ModelProto

LATEST_TRACED_OPSET = 20
"""What the exporter by a trace ends at; no later one will come."""


def by_trace(model: torch.nn.Module, pictures: torch.Tensor, outputs: Sequence[str], opset: int) -> ModelProto:
    """Return the graph of what one pass over `pictures`, uint8 [n, H, W, 3], did; branches not taken are not in it."""
    import onnx
    import torch

    # On failure it writes the whole graph to the terminal, from C++.
    with tempfile.TemporaryDirectory(prefix="zoo-onnx-") as folder, mute():
        file = Path(folder, "model.onnx")
        torch.onnx.export(
            model,
            (pictures,),
            str(file),
            input_names=[INPUT],
            output_names=list(outputs),
            dynamic_axes={name: {0: BATCH} for name in (INPUT, *outputs)},
            opset_version=min(opset, LATEST_TRACED_OPSET),
            dynamo=False,
            verbose=False,
        )
        return onnx.load(file)


def by_dynamo(model: torch.nn.Module, pictures: torch.Tensor, outputs: Sequence[str], opset: int) -> ModelProto:
    """Return the graph that torch.export finds in the module's code."""
    import torch

    program = torch.onnx.export(
        model,
        (pictures,),
        input_names=[INPUT],
        output_names=list(outputs),
        dynamic_shapes=({0: torch.export.Dim(BATCH)},),
        opset_version=opset,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch.onnx returned nothing")
    return program.model_proto


Maker = Callable[["torch.nn.Module", "torch.Tensor", Sequence[str], int], "ModelProto"]

MAKERS: Mapping[str, Maker] = {
    "by a trace": by_trace,
    "by torch.export": by_dynamo,
}
"""In the order in which they are tried. After `simplified` their graphs are alike, those of a trace a little faster;
and it takes a tenth of the time, but it knows less of Python."""
