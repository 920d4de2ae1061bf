"""ONNX at fp32 and int8, run by onnxruntime."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from zoo.errors import ArtifactInvalid, ExportUnsupported, ZooError
from zoo.plugin import Made
from zoo_exporters import onnx_int8
from zoo_exporters.onnx_float import float_model
from zoo_exporters.onnx_graph import seal
from zoo_exporters.quiet import quiet, reason

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch
    from onnx import ModelProto

    from zoo.plugin import ExportRequest, Predictor

PROTOBUF_LIMIT_BYTES = 2**31 - 2**20
"""A single ONNX file must stay below 2 GiB; a mebibyte is left for the graph itself."""


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

    def export(self, request: ExportRequest, out: Path) -> Made:
        """Write the model file.

        Raises:
            ExportUnsupported: the model cannot be expressed in ONNX at this precision, or not for this target.
            OptionInvalid: an unknown `calibration_method`.
        """
        _check_size(request.model)
        try:
            with quiet():
                model, made = _converted(float_model(request), request)
                data = seal(model, request)
        except (ZooError, OSError):
            raise
        except Exception as exc:
            raise ExportUnsupported(
                f"onnx {request.precision} failed: {reason(exc)}; {_way_out(request.precision)}"
            ) from exc
        out.write_bytes(data)
        return made

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


def _converted(model: ModelProto, request: ExportRequest) -> tuple[ModelProto, Made]:
    if request.precision == "int8":
        return onnx_int8.quantize(model, request, onnx_int8.calibration_method(request.options)), Made()
    return model, Made()


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
