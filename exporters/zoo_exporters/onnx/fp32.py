"""A model in PyTorch -> the same in ONNX at fp32, by the first of torch's exporters whose graph answers alike."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import ExportUnsupported
from zoo_exporters.onnx.graph import output_names, save
from zoo_exporters.onnx.makers import MAKERS
from zoo_exporters.onnx.parity import Parity, eager
from zoo_exporters.onnx.simplify import simplified
from zoo_exporters.quiet import quiet, reason

if TYPE_CHECKING:
    import torch
    from onnx import ModelProto

    from zoo.plugin import ExportRequest
    from zoo_exporters.onnx.makers import Maker

FUSED_ATTENTION = "fused_attn"
"""timm's switch, an attribute of each attention module."""
FUSES_BRANCHES = ("fuse", "reparameterize", "switch_to_deploy")
"""What a module may have to become one convolution in place of several: RepVGG and its heirs, LeViT's linear layers."""


def float_model(request: ExportRequest) -> ModelProto:
    """Return the graph of `request.model`: uint8 [N, H, W, 3] to probabilities float32 [N, C], its batch axis free.

    Raises:
        ExportUnsupported: no exporter of torch's gives a graph that answers as the model does.
    """
    parity = Parity(request)
    model = exportable(request.model, parity)
    objections = []
    for name, maker in MAKERS.items():
        try:
            with quiet():
                graph = _made(maker, model, request, parity)
                objection = _objection(graph, parity)
        except Exception as exc:
            if isinstance(exc, OSError) and exc.errno:  # a full disk, not torch's "could not get source code"
                raise
            objection = reason(exc)
        if not objection:
            return graph
        objections.append(f"{name}: {objection}")
    raise ExportUnsupported(
        f"onnx {request.precision} failed: {'; '.join(objections)}; try --torchscript or another backbone"
    )


def exportable(model: torch.nn.Module, parity: Parity) -> torch.nn.Module:
    """Return a copy without what stands in an exporter's way, its parallel branches fused if that changes no answer."""
    model = _plain(model)
    if not any(hasattr(module, name) for module in model.modules() for name in FUSES_BRANCHES):
        return model
    from timm.utils.model import reparameterize_model

    try:
        with quiet():
            fused = reparameterize_model(model)
            return model if parity.objection(eager(fused)) else fused
    except Exception:  # a stranger's method of that name may want arguments, or do something else
        return model


def _plain(model: torch.nn.Module) -> torch.nn.Module:
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


def _made(maker: Maker, model: torch.nn.Module, request: ExportRequest, parity: Parity) -> ModelProto:
    import torch
    from onnx import version_converter

    opset = request.target.opset
    # A batch of one would be taken for a constant.
    pictures = parity.pictures[:2]
    graph = maker(model, torch.from_numpy(pictures), output_names(request), opset)
    if any(used.domain in ("", "ai.onnx") and used.version > opset for used in graph.opset_import):
        graph = version_converter.convert_version(graph, opset)
    return simplified(graph, pictures)


def _objection(graph: ModelProto, parity: Parity) -> str:
    from zoo.runtime.session import OnnxPredictor

    with tempfile.TemporaryDirectory(prefix="zoo-onnx-") as folder:
        return parity.objection(OnnxPredictor(save(graph, Path(folder, "model.onnx")), threads=1))
