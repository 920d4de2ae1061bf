"""A model in PyTorch -> the same in ONNX at fp32, whose answers are checked."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from zoo_exporters.onnx_graph import BATCH, INPUT, OUTPUT

if TYPE_CHECKING:
    import torch
    from onnx import ModelProto

    from zoo.plugin import ExportRequest

FUSED_ATTENTION = "fused_attn"
"""timm's switch, an attribute of each attention module."""


def float_model(request: ExportRequest) -> ModelProto:
    """Return the graph of `request.model`: uint8 [N, H, W, 3] to probabilities float32 [N, C], its batch axis free."""
    import torch

    height, width = request.preprocess.size
    # A batch of one would be taken for a constant.
    example = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    program = torch.onnx.export(
        _exportable(request.model),
        (example,),
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=({0: torch.export.Dim(BATCH)},),
        opset_version=request.target.opset,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch.onnx returned nothing")
    return program.model_proto


def _exportable(model: torch.nn.Module) -> torch.nn.Module:
    import torch

    model = copy.deepcopy(model)
    for module in model.modules():
        # timm's fused attention stands in the way of several families; the plain form computes the same.
        if getattr(module, FUSED_ATTENTION, False):
            setattr(module, FUSED_ATTENTION, False)
        # Pooling of channels-last memory would come out as a Gather with computed indices, which no runtime optimises.
        if isinstance(module, torch.nn.AdaptiveAvgPool2d):
            module.register_forward_pre_hook(_contiguous)
    return model


def _contiguous(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(tensor.contiguous() for tensor in inputs)
