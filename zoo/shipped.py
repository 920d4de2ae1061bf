"""The model that ships: raw pixels in, probabilities out; `Preprocess` in its torch form."""

from __future__ import annotations

import torch

Colour = tuple[float, float, float]
"""Of R, G, B, on the scale 0..1."""


class Normalise(torch.nn.Module):
    """Turn uint8 [N, H, W, 3] into normalised float32 [N, 3, H, W], channels last in memory."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: Colour, std: Colour) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).mul(255).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).mul(255).view(3, 1, 1), persistent=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Normalise a batch of pixels."""
        return (image.permute(0, 3, 1, 2).float() - self.mean) / self.std


class ShippedModel(torch.nn.Module):
    """Normalisation, backbone, softmax (sigmoid for multi-label): what is evaluated, exported and run on the device."""

    def __init__(self, backbone: torch.nn.Module, normalise: Normalise, *, multi_label: bool = False) -> None:
        super().__init__()
        self.normalise = normalise
        self.backbone = backbone
        self.multi_label = multi_label

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map uint8 [N, H, W, 3] to probabilities float32 [N, C]."""
        logits: torch.Tensor = self.backbone(self.normalise(image)).float()
        return logits.sigmoid() if self.multi_label else logits.softmax(-1)
