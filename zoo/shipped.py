"""The model that ships: raw pixels in, probabilities out; `Preprocess` in its torch form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from zoo.preprocess import Preprocess


class Normalise(torch.nn.Module):
    """Turn uint8 [N, H, W, 3] into normalised float32 [N, 3, H, W], channels last in memory."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(preprocess.mean).mul(255).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(preprocess.std).mul(255).view(3, 1, 1), persistent=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Normalise a batch of pixels."""
        return (image.permute(0, 3, 1, 2).float() - self.mean) / self.std


class ShippedModel(torch.nn.Module):
    """Normalisation, backbone, softmax (sigmoid for multi-label): what is evaluated, exported and run on the device."""

    def __init__(self, backbone: torch.nn.Module, preprocess: Preprocess, *, multi_label: bool = False) -> None:
        super().__init__()
        self.normalise = Normalise(preprocess)
        self.backbone = backbone
        self.multi_label = multi_label

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map uint8 [N, H, W, 3] to probabilities float32 [N, C]."""
        logits: torch.Tensor = self.backbone(self.normalise(image)).float()
        return logits.sigmoid() if self.multi_label else logits.softmax(-1)
