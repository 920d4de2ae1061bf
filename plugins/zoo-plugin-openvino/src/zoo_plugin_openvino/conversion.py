"""A PyTorch model -> an OpenVINO model that answers as it does, and its two files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from zoo.plugin import ExportUnsupported

from zoo_plugin_openvino.predictor import OpenVinoPredictor
from zoo_plugin_openvino.silence import reason

if TYPE_CHECKING:
    from pathlib import Path

    import openvino
    import torch
    from zoo.plugin import ExportRequest, Predictor

INPUT, OUTPUT = "image", "probabilities"
TOLERANCE = 5e-3
"""Of a probability, between the two models: an ulp of difference may grow, a branch not taken is gross."""
NUMBERED = re.compile(r"(?P<type>[A-Z][A-Za-z]*_)(?P<number>\d+)(?=/|$)")
"""A name that openvino made up, perhaps with what was derived from it by nncf."""


def convert(request: ExportRequest) -> openvino.Model:
    """Return the request's model at fp32, its batch size free.

    Raises:
        ExportUnsupported: it answers differently from the original, whose Python code the trace does not hold.
    """
    import openvino
    import torch

    height, width = request.preprocess.size
    noise = np.random.default_rng(0).integers(256, size=(5, height, width, 3), dtype=np.uint8)
    # A trace, as openvino itself makes of a module: torch.export takes several times as long to the same nodes. Made
    # here because openvino's would run the model again to check itself, where the probes below do, and set its modes.
    with torch.no_grad():
        traced = torch.jit.trace(request.model, (torch.from_numpy(noise[:2]),), check_trace=False)  # type: ignore[no-untyped-call]
    shape = openvino.PartialShape([-1, height, width, 3])
    model = openvino.convert_model(traced, input=[(shape, openvino.Type.u8)], share_weights=False)
    model.inputs[0].set_names({INPUT})
    model.outputs[0].set_names({OUTPUT})
    predict = OpenVinoPredictor(model)
    for probe in (np.zeros_like(noise[:1]), np.full_like(noise[:1], 255), noise):
        if not _agree(predict, request.model, probe):
            raise ExportUnsupported(
                f"openvino {request.precision}: the converted model answers differently from the original on other "
                "pixels or batch sizes, so its Python code depends on them; try --onnx or another backbone"
            )
    return model


def save(model: openvino.Model, out: Path, *, fp16: bool) -> None:
    """Write `out` and, beside it, its .bin.

    Raises:
        OSError: there is no room, or no permission; neither file is left.
    """
    import openvino

    _number_anew(model)
    try:
        openvino.save_model(model, out, compress_to_fp16=fp16)
    except BaseException as exc:
        for file in (out, out.with_suffix(".bin")):
            file.unlink(missing_ok=True)
        if isinstance(exc, RuntimeError):  # openvino's word for a full disk
            raise OSError(reason(exc)) from exc
        raise


def _agree(predict: Predictor, model: torch.nn.Module, probe: np.ndarray) -> bool:
    import torch

    with torch.no_grad():
        expected = model(torch.from_numpy(probe)).numpy()
    try:
        found = predict(probe)
    except RuntimeError:  # a shape that the trace took for a constant
        return False
    return found.shape == expected.shape and np.allclose(found, expected, rtol=0.0, atol=TOLERANCE, equal_nan=True)


def _number_anew(model: openvino.Model) -> None:
    # openvino numbers what has no name through the life of the process; the same weights should give the same file.
    model.set_friendly_name("model")
    numbers: dict[str, str] = {}
    for node in model.get_ordered_ops():
        name = node.get_friendly_name()
        if found := NUMBERED.match(name):
            number = numbers.setdefault(found["number"], str(len(numbers)))
            node.set_friendly_name(found["type"] + number + name[found.end() :])
