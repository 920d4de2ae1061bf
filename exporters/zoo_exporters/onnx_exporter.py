"""ONNX at fp32 and int8, run by onnxruntime."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, ClassVar

from zoo.errors import ArtifactInvalid, ExportUnsupported, ZooError
from zoo_exporters import onnx_int8
from zoo_exporters.onnx_graph import BATCH, INPUT, OUTPUT, seal
from zoo_exporters.quiet import quiet, reason

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch
    from onnx import ModelProto

    from zoo.plugin import ExportRequest, Predictor

PROTOBUF_LIMIT_BYTES = 2**31 - 2**20
"""A single ONNX file must stay below 2 GiB; a mebibyte is left for the graph itself."""


FUSED_ATTENTION = "fused_attn"
"""timm's switch, an attribute of each attention module."""


class OnnxExporter:
    """A single ONNX file with the pixels' normalisation and the probabilities inside, its batch axis free.

    Options:
        calibration_method: How int8 ranges are found: minmax, percentile or entropy.
    """

    suffix: ClassVar[str] = ".onnx"
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "int8")

    def export_options(self) -> Mapping[str, object]:
        """Return each option with its default."""
        return {"calibration_method": "minmax"}

    def export(self, request: ExportRequest, out: Path) -> None:
        """Write the model file.

        Raises:
            ExportUnsupported: the model cannot be expressed in ONNX at this precision, or not for this target.
            OptionInvalid: an unknown `calibration_method`.
        """
        method = onnx_int8.calibration_method(request.options)
        _check_size(request.model)
        try:
            with quiet():
                model = _to_onnx(request)
                if request.precision == "int8":
                    model = onnx_int8.quantize(model, request, method)
                data = seal(model, request)
        except (ZooError, OSError):
            raise
        except Exception as exc:
            raise ExportUnsupported(
                f"onnx {request.precision} failed: {reason(exc)}; {_way_out(request.precision)}"
            ) from exc
        out.write_bytes(data)

    def open(self, model_file: Path, *, threads: int = 0) -> Predictor:
        """Load a model file in onnxruntime, on the CPU, with the class that runs on the device.

        Raises:
            ArtifactInvalid: onnxruntime does not take the file.
        """
        from zoo.runtime.session import OnnxPredictor

        try:
            return OnnxPredictor(model_file, threads=threads)
        except Exception as exc:  # onnxruntime raises a class of its own for each status, and UnicodeDecodeError
            raise ArtifactInvalid(
                f"{model_file}: onnxruntime cannot load it ({reason(exc)}); export it again with `zoo export --onnx`"
            ) from exc


def _way_out(precision: str) -> str:
    return (
        "use --fp32, --torchscript --int8 or another backbone"
        if precision == "int8"
        else "try --torchscript or another backbone"
    )


def _check_size(model: torch.nn.Module) -> None:
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    if size > PROTOBUF_LIMIT_BYTES:
        raise ExportUnsupported(
            f"the weights take {size / 2**30:.1f} GiB and an ONNX file holds 2; use --torchscript or a smaller backbone"
        )


def _to_onnx(request: ExportRequest) -> ModelProto:
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
