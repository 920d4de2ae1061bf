"""Linear layers in int8 whose activations are measured as they come, by torch's eager mode, which traces nothing."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic

from zoo.errors import ExportUnsupported

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zoo.plugin import ExportRequest

WORTH = 0.25
"""The least share of the weights in Linear layers for which they are quantized."""


def quantize_linears(request: ExportRequest) -> tuple[nn.Module, float]:
    """Return the model that ships around a backbone with int8 Linear layers, and the share of the weights in them.

    Raises:
        ExportUnsupported: it has next to no Linear layers.
    """
    backbone = copy.deepcopy(request.backbone)
    linears = called_linears(backbone, request.preprocess.size)
    inside = sum(module.weight.numel() for module in linears.values())
    share = inside / max(sum(parameter.numel() for parameter in backbone.parameters()), 1)
    if share < WORTH:
        raise ExportUnsupported(
            f"torchscript dynamic is for Linear layers, which hold {share:.0%} of this model's weights; "
            "use --torchscript --int8 or --onnx --int8"
        )
    quantized = quantize_dynamic(  # type: ignore[no-untyped-call]
        backbone, dict.fromkeys(linears, per_channel_dynamic_qconfig)
    )
    return request.preprocess.wrap(quantized, multi_label=request.multi_label, unknown=request.unknown).eval(), share


def called_linears(backbone: nn.Module, size: tuple[int, int]) -> Mapping[str, nn.Linear]:
    """Return the Linear layers that a pass calls; some are only kept for their weights, which must stay tensors."""
    called: set[nn.Module] = set()
    linears = {name: module for name, module in backbone.named_modules() if type(module) is nn.Linear}
    hooks = [module.register_forward_hook(lambda module, *_: called.add(module)) for module in linears.values()]
    try:
        with torch.no_grad():
            backbone(torch.zeros(1, 3, *size))
    finally:
        for hook in hooks:
            hook.remove()
    return {name: module for name, module in linears.items() if module in called}
