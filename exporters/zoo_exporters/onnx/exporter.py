"""ONNX, run by onnxruntime: one file, from fp32 down to int4 weights."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from zoo.errors import ArtifactInvalid, ExportUnsupported, ZooError
from zoo.plugin import Made
from zoo_exporters.onnx.dynamic import dynamic_int8, int4_weights
from zoo_exporters.onnx.fp16 import half
from zoo_exporters.onnx.fp32 import float_model
from zoo_exporters.onnx.graph import ONE_FILE_BYTES, save, seal
from zoo_exporters.onnx.int8.effort import DEFAULT as USUAL_EFFORT
from zoo_exporters.onnx.int8.search import check_words, search
from zoo_exporters.onnx.resize import check_target, put_in_front, take_away
from zoo_exporters.onnx.saturation import NEEDED, may_saturate, noted
from zoo_exporters.onnx.weights import int8_weights
from zoo_exporters.quiet import aloud, quiet, reason

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from onnx import ModelProto

    from zoo.plugin import ExportRequest, Predictor, Preprocess


class OnnxExporter:
    """A single ONNX file with the pixels' normalisation and the probabilities inside, its batch axis free.

    Options:
        search: How much int8 may try: quick, balanced or thorough.
        calibration_method: How int8 ranges are found: minmax, percentile, mse or entropy; auto tries what it must.
    """

    suffix: ClassVar[str] = ".onnx"
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "fp16", "int8", "dynamic", "int8-weights", "int4-weights")
    instead: ClassVar[Mapping[str, str]] = {"int8": "int8-weights", "dynamic": "int8-weights"}
    tells_unknown: ClassVar[bool] = True
    resizes_in_graph: ClassVar[bool] = True

    def export_options(self) -> Mapping[str, object]:
        """Return each option with its default."""
        return {"search": USUAL_EFFORT, "calibration_method": "auto"}

    def export(self, request: ExportRequest, out: Path) -> Made:
        """Write the model file.

        Raises:
            ExportUnsupported: the model cannot be expressed in ONNX at this precision, or not for this target.
            OptionInvalid: an unknown `search` or `calibration_method`, or a target too old for what is asked.
        """
        check_words(dict(request.options))
        _check_size(request)
        if request.resize:
            check_target(request.target)
        request = replace(request, note=aloud(request.note))
        try:
            with quiet():
                # What is searched and quantized is the network for prepared pixels.
                model, made = _converted(replace(request, resize=False))
                if request.resize:
                    put_in_front(model, request.preprocess)
                exactness = noted(model)
                seal(model, request, {**made.session, **exactness})
                if exactness == NEEDED:
                    made = replace(made, session={**made.session, **exactness})
        except (ZooError, OSError):
            raise
        except Exception as exc:
            raise ExportUnsupported(
                f"onnx {request.precision} failed: {reason(exc)}; {_way_out(request.precision)}"
            ) from exc
        save(model, out)
        return made

    def without_resize(self, model_file: Path, preprocess: Preprocess, out: Path) -> None:
        """Write a file that resizes once more, from where the pixels are prepared: what it was before, to the bit."""
        import onnx

        model = onnx.load(model_file)
        take_away(model, preprocess)
        save(model, out)

    def saturates(self, model_file: Path) -> bool | None:
        """Return whether sums of int8 products may saturate on x86 without VNNI; None where there are no such."""
        import onnx

        return may_saturate(onnx.load(model_file))

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


def _converted(request: ExportRequest) -> tuple[ModelProto, Made]:
    model = float_model(request)
    made_by = {
        "fp16": half,
        "int8": search,
        "dynamic": dynamic_int8,
        "int8-weights": int8_weights,
        "int4-weights": int4_weights,
    }
    return made_by[request.precision](model, request) if request.precision in made_by else (model, Made())


def _way_out(precision: str) -> str:
    return (
        "use --fp32, --torchscript --int8 or another backbone"
        if precision == "int8"
        else "try --torchscript or another backbone"
    )


def _check_size(request: ExportRequest) -> None:
    """Refuse what the quantizers cannot hold in one message; at fp32 the weights go to a file of their own."""
    size = sum(tensor.numel() * tensor.element_size() for tensor in request.model.state_dict().values())
    if size > ONE_FILE_BYTES and request.precision != "fp32":
        raise ExportUnsupported(
            f"onnx {request.precision}: the weights take {size / 2**30:.1f} GiB and the quantizer holds 2; "
            "use --fp32 or a smaller backbone"
        )
