"""Static int8 quantization of an OpenVINO model by NNCF."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING

from zoo.plugin import ExportUnsupported, OptionInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import openvino
    from zoo.plugin import ExportRequest

OPTIONS: Mapping[str, object] = {
    "fast_bias_correction": True,
    "activation_range": "minmax",
    "calibration_images": 300,
}
RANGES = {"minmax": "MINMAX", "mean_minmax": "MEAN_MINMAX", "histogram": "HISTOGRAM"}
"""The user's word for a way to find the range of an activation, and NNCF's."""


def calibration_images(request: ExportRequest, options: Mapping[str, object]) -> list[np.ndarray]:
    """Return uint8 [1, H, W, 3] each, as many as there are but no more than the option says.

    Raises:
        ExportUnsupported: there is not a single image.
        OptionInvalid: an option has a value that there is not.
    """
    most, activation_range = options["calibration_images"], options["activation_range"]
    if not isinstance(most, int) or most < 1:
        raise OptionInvalid(f"calibration_images={most!r} of the openvino exporter must be 1 or more")
    if activation_range not in RANGES:
        raise OptionInvalid(
            f"activation_range={activation_range!r} is unknown to the openvino exporter; use one of {', '.join(RANGES)}"
        )
    # One by one: nncf would take the statistics of a batch for those of an image.
    images = [image[None] for image in islice(chain.from_iterable(request.calibration()), most)]
    if not images:
        raise ExportUnsupported(
            "openvino int8 needs calibration images and the training split gave none; add images or use --fp32"
        )
    return images


def quantize(model: openvino.Model, images: list[np.ndarray], options: Mapping[str, object]) -> openvino.Model:
    """Return the model with int8 weights (per channel) and int8 activations, marked by FakeQuantize nodes."""
    import nncf
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    ranges = getattr(RangeEstimatorParametersSet, RANGES[str(options["activation_range"])])
    # No preset: nncf then takes symmetric activations for a CNN and asymmetric ones for a transformer.
    return nncf.quantize(
        model,
        nncf.Dataset(images),
        model_type=nncf.ModelType.TRANSFORMER if has_attention(model) else None,
        subset_size=len(images),
        fast_bias_correction=bool(options["fast_bias_correction"]),
        advanced_parameters=nncf.AdvancedQuantizationParameters(activations_range_estimator_params=ranges),
    )


def has_attention(model: openvino.Model) -> bool:
    """Tell whether anything but the probabilities is made by a softmax."""
    return any(
        node.get_type_name() == "ScaledDotProductAttention" or (node.get_type_name() == "Softmax" and not _ends(node))
        for node in model.get_ops()
    )


def _ends(node: openvino.Node) -> bool:
    return all(
        target.get_node().get_type_name() == "Result"
        for output in node.outputs()
        for target in output.get_target_inputs()
    )
