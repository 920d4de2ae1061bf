"""What zoo hands to an exporter, and what its files are held against."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.contracts.plugins import ExportRequest
from zoo.contracts.preprocess import Preprocess
from zoo.contracts.target import Target
from zoo.contracts.unknown import Unknown
from zoo.testing.toys import CLASSES, SIDE, pictures

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import torch


class NoImages:
    """A calibration set without an image, that knows whether it was asked for."""

    asked = False

    def __call__(self) -> Iterator[np.ndarray]:
        """Return nothing."""
        self.asked = True
        return iter(())


def make_request(
    backbone: torch.nn.Module, precision: str, options: Mapping[str, object], **changed: Any
) -> ExportRequest:
    """Make what zoo hands to an exporter."""
    preprocess = Preprocess(size=(SIDE, SIDE))
    given: dict[str, Any] = {
        "model": preprocess.wrap(
            backbone, multi_label=changed.get("multi_label", False), unknown=changed.get("unknown")
        ).eval(),
        "backbone": backbone,
        "preprocess": preprocess,
        "classes": CLASSES,
        "precision": precision,
        "calibration": lambda: iter(np.split(pictures(70, seed=9)[0], [32, 64])),
        "target": Target(),
        "options": options,
    }
    return ExportRequest(**{**given, **changed})


def eager(request: ExportRequest, images: np.ndarray) -> np.ndarray:
    """Return the reference's answers, float32 [N, C]."""
    import torch

    with torch.inference_mode():
        return np.asarray(request.model(torch.from_numpy(images.copy())).numpy())


def resized_pictures() -> list[np.ndarray]:
    """Return pictures, uint8 [n, H, W, 3], of a wide, a high and the model's own size."""
    sizes = {(60, 90): 1, (121, 40): 3, (SIDE, SIDE): 2}
    views = [(Preprocess(size=size, crop="squash"), count) for size, count in sizes.items()]
    return [np.stack([view.prepare(image) for image in pictures(count, seed=4)[0]]) for view, count in views]


def halfway(request: ExportRequest, images: np.ndarray) -> Unknown:
    """Return the rule by which half of the pictures are unknown to the request's model."""
    import torch

    from zoo.contracts.shipped import known_score

    pixels = request.model.get_submodule("normalise")(torch.from_numpy(images))
    with torch.inference_mode():
        scores = known_score(request.backbone(pixels), "energy", request.multi_label).sort().values
    middle = len(scores) // 2
    return Unknown(by="energy", threshold=float(scores[middle - 1 : middle + 1].mean()))


def unknown_to(request: ExportRequest, images: np.ndarray) -> np.ndarray:
    """Return which images are unknown to the reference, bool [N]."""
    import torch

    with torch.inference_mode():
        return np.asarray(request.model(torch.from_numpy(images.copy()))[1].numpy())


def footprint(model: torch.nn.Module) -> dict[str, Any]:
    """Return everything of a model that an export must leave as it was, by name."""
    modes = {
        f"the state of {name or 'the model'}": (
            type(module),
            module.training,
            getattr(module, "fused_attn", None),
            len(module._forward_hooks),
            len(module._forward_pre_hooks),
        )
        for name, module in model.named_modules()
    }
    return {**modes, **{f"weights {name}": copy.deepcopy(value) for name, value in model.state_dict().items()}}


def same(value: Any, other: Any) -> bool:
    """Compare what `footprint` holds."""
    import torch

    return torch.equal(value, other) if isinstance(value, torch.Tensor) else bool(value == other)
