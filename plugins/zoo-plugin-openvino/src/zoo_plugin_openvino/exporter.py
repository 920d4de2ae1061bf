"""OpenVINO at fp32, fp16 and int8, run by OpenVINO's CPU runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from zoo.plugin import ArtifactInvalid, ExportUnsupported, OptionInvalid

from zoo_plugin_openvino.conversion import convert, save
from zoo_plugin_openvino.int8 import OPTIONS, calibration_images, quantize
from zoo_plugin_openvino.predictor import OpenVinoPredictor, read
from zoo_plugin_openvino.silence import load, reason, silence

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from zoo.plugin import ExportRequest, Predictor

ZOO_API = 1
"""The version of `zoo.plugin` that this was written for."""


class OpenVinoExporter:
    """An .xml that holds the graph and a .bin that holds the weights, the batch size free.

    fp16 stores the weights in half the space and computes at fp32; int8 quantizes weights and activations with NNCF.

    Options:
        fast_bias_correction: For int8, correct biases from one mean a channel; false takes longer and is more exact,
            most of all where images are small.
        activation_range: For int8, "minmax" covers every activation seen, "mean_minmax" those of an average image,
            "histogram" those that make the error smallest.
        calibration_images: For int8, the most that are looked at.
    """

    suffix: ClassVar[str] = ".xml"
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "fp16", "int8")

    def export_options(self) -> Mapping[str, object]:
        """Return each option with its default."""
        return OPTIONS

    def export(self, request: ExportRequest, out: Path) -> None:
        """Write the model file, and its .bin beside it.

        Raises:
            ExportUnsupported: the model cannot be converted, or not quantized.
            OptionInvalid: an option has a value that there is not.
        """
        int8 = request.precision == "int8"
        options = {**OPTIONS, **request.options}
        images = calibration_images(request, options) if int8 else []
        load("nncf" if int8 else "openvino")
        try:
            with silence():
                model = convert(request)
                save(quantize(model, images, options) if int8 else model, out, fp16=request.precision == "fp16")
        except (ExportUnsupported, OptionInvalid, OSError):
            raise
        except Exception as exc:
            way_out = "--format openvino --fp32 or --onnx --int8" if int8 else "--onnx or another backbone"
            raise ExportUnsupported(f"openvino {request.precision} failed: {reason(exc)}; try {way_out}") from exc

    def open(self, model_file: Path, *, threads: int = 0) -> Predictor:
        """Load a model file, and its .bin, on the CPU.

        Raises:
            ArtifactInvalid: a file is missing, or openvino does not take them.
        """
        load("openvino")
        try:
            return OpenVinoPredictor(read(model_file), threads=threads)
        except (OSError, RuntimeError) as exc:
            raise ArtifactInvalid(
                f"{model_file}: openvino cannot load it ({reason(exc)}); export it again with "
                "`zoo export --format openvino`"
            ) from exc
