"""How pixels become the model's input: one frozen value, and its Pillow and torch forms."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import torch

    from zoo.contracts.unknown import Unknown

Crop = Literal["center", "squash", "border"]
Interpolation = Literal["nearest", "bilinear", "bicubic"]


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """The single source for evaluation, calibration, the exported graph and the device; stored beside the model."""

    size: tuple[int, int]
    """Height and width of the model's input, in pixels."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Of R, G, B, on the scale 0..1."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    interpolation: Interpolation = "bicubic"
    """Pillow's antialiased kernel."""
    crop: Crop = "center"
    crop_fraction: float = 0.875
    """In (0, 1]: the share of the scaled side that a "center" crop keeps."""

    @classmethod
    def from_pretrained_cfg(cls, cfg: Mapping[str, Any], *, image_size: int | None = None) -> Preprocess:
        """Read timm's `pretrained_cfg`; what it leaves out gets ImageNet's usual values, at 224 pixels."""
        _, height, width = cfg.get("input_size") or (3, 224, 224)
        interpolation: Any = cfg.get("interpolation")
        crop: Any = cfg.get("crop_mode")
        return cls(
            size=(image_size, image_size) if image_size else (height, width),
            mean=tuple(cfg.get("mean") or cls.mean),
            std=tuple(cfg.get("std") or cls.std),
            interpolation=interpolation if interpolation in get_args(Interpolation) else "bicubic",
            crop=crop if crop in get_args(Crop) else "center",
            crop_fraction=float(cfg.get("crop_pct") or 0.875),
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Preprocess:
        """Take back what `to_json` gave."""
        known = {**values, "size": tuple(values["size"]), "mean": tuple(values["mean"]), "std": tuple(values["std"])}
        return cls(**{name: known[name] for name in cls.__dataclass_fields__})

    def to_json(self) -> dict[str, Any]:
        """Return plain values; `color` says what the pixels are, for readers in other languages."""
        return {"color": "RGB", **asdict(self)}

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """Resize and crop RGB uint8 [H, W, 3] of any size to uint8 [height, width, 3], as the device does."""
        from zoo.runtime.pixels import prepare

        return prepare(image, self.size, self.crop, self.crop_fraction, self.interpolation)

    def wrap(
        self, backbone: torch.nn.Module, *, multi_label: bool = False, unknown: Unknown | None = None
    ) -> torch.nn.Module:
        """Return the model that ships: uint8 [N, H, W, 3] to probabilities float32 [N, C], around `backbone`.

        With `unknown` it gives a tuple: the probabilities, and bool [N].
        """
        from zoo.contracts.shipped import Normalise, ShippedModel

        return ShippedModel(backbone, Normalise(self.mean, self.std), multi_label=multi_label, unknown=unknown)
