"""Static int8 quantization of a backbone by torch's FX graph mode."""

from __future__ import annotations

import copy
import operator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.ao.quantization import (
    HistogramObserver,
    QConfig,
    QConfigMapping,
    default_per_channel_weight_observer,
    get_default_qconfig,
    get_default_qconfig_mapping,
)
from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx
from torch.nn.utils.fusion import fuse_conv_bn_weights

from zoo_exporters.calibration import calibration_batches
from zoo_exporters.quiet import reason
from zoo_exporters.torchscript.predictor import as_tensor

if TYPE_CHECKING:
    from torch.fx import GraphModule, Node

    from zoo.plugin import ExportRequest

SIGNS_OF_A_TRANSFORMER = (
    torch.matmul,
    operator.matmul,
    torch.bmm,
    nn.functional.scaled_dot_product_attention,
    nn.functional.layer_norm,
)
"""Products of activations, and layer norm as a function, which is how timm writes it."""
DOES_NOTHING = (nn.Identity, nn.Dropout, nn.Dropout2d)


class NotTraceable(Exception):
    """FX cannot follow the Python code of this model; the text says at what it stopped."""


def quantize(request: ExportRequest, engine: str) -> nn.Module:
    """Return the model that ships around an int8 backbone, in eager form; run it under `using_engine(engine)`.

    Raises:
        NotTraceable: FX cannot trace the backbone.
    """
    try:
        backbone = traced(request.backbone)
    except Exception as exc:  # whatever the model's own code raises when it is run on symbols
        raise NotTraceable(reason(exc)) from exc
    prepared = prepare_fx(backbone, _mapping(backbone, engine), (torch.zeros(2, 3, *request.preprocess.size),))
    observed = request.preprocess.wrap(prepared).eval()
    with torch.no_grad():
        for batch in calibration_batches(request):
            observed(as_tensor(batch))
    converted = convert_fx(prepared)
    return request.preprocess.wrap(converted, multi_label=request.multi_label, unknown=request.unknown).eval()


def traced(backbone: nn.Module) -> GraphModule:
    """Trace a copy of `backbone` into the form that the quantizer's patterns know.

    They fuse a convolution with torch's own batch norm and ReLU if nothing stands between; timm's norms are functional
    calls, with assertions before and an identity behind, and would stay in float.
    """
    module = torch.fx.symbolic_trace(copy.deepcopy(backbone).eval())
    for node in list(module.graph.nodes):
        if node.target is torch._assert:
            module.graph.erase_node(node)
        elif node.op == "call_module" and isinstance(module.get_submodule(node.target), DOES_NOTHING):
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
    module.graph.eliminate_dead_code()
    for node in list(module.graph.nodes):
        if node.target is nn.functional.batch_norm:
            _fold_into_convolution(module, node)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def _mapping(backbone: GraphModule, engine: str) -> QConfigMapping:
    called = any(node.target in SIGNS_OF_A_TRANSFORMER for node in backbone.graph.nodes)
    if not called and not any(isinstance(module, nn.LayerNorm) for module in backbone.modules()):
        mapping = get_default_qconfig_mapping(engine)
        return mapping.set_global(_for_arm()) if engine == "qnnpack" else mapping
    # Transformers have outliers that int8 cannot hold: only products with weights, which is faster too (measured).
    qconfig = _for_arm() if engine == "qnnpack" else get_default_qconfig(engine)  # type: ignore[no-untyped-call]
    return QConfigMapping().set_object_type(nn.Conv2d, qconfig).set_object_type(nn.Linear, qconfig)


def _for_arm() -> QConfig:
    # torch's default for qnnpack has one scale for all channels of a weight; the engine takes one for each.
    return QConfig(  # type: ignore[no-untyped-call]
        activation=HistogramObserver.with_args(reduce_range=False), weight=default_per_channel_weight_observer
    )


def _fold_into_convolution(module: GraphModule, norm: Node) -> None:
    before: Any = norm.args[0]
    arguments: Any = norm.normalized_arguments(module, normalize_to_only_use_kwargs=True)
    if arguments is None or not _only_feeds(before, norm):
        return
    conv, given = module.get_submodule(before.target), arguments.kwargs
    if type(conv) is not nn.Conv2d or given["training"] or given["running_mean"] is None:
        return
    mean, var, weight, bias = (
        _value(module, given[name]) for name in ("running_mean", "running_var", "weight", "bias")
    )
    conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, mean, var, given["eps"], weight, bias)
    norm.replace_all_uses_with(before)
    module.graph.erase_node(norm)


def _only_feeds(before: Node, norm: Node) -> bool:
    if before.op != "call_module" or list(before.users) != [norm]:
        return False
    return [node.target for node in before.graph.nodes].count(before.target) == 1


def _value(module: GraphModule, constant: Node | None) -> Any:
    return None if constant is None else operator.attrgetter(str(constant.target))(module)
