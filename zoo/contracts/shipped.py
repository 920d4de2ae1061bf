"""The model that ships: raw pixels in, probabilities out; `Preprocess` in its torch form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from zoo.contracts.unknown import Unknown, UnknownBy

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


class Tempered(torch.nn.Module):
    """A backbone whose logits are divided by a temperature: their order stays, their probabilities become honest."""

    def __init__(self, backbone: torch.nn.Module, temperature: float) -> None:
        super().__init__()
        self.backbone = backbone
        self.temperature = temperature

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map float32 [N, 3, H, W] to logits [N, C]."""
        logits: torch.Tensor = self.backbone(pixels)
        return logits / self.temperature


class ShippedModel(torch.nn.Module):
    """Normalisation, backbone, softmax (sigmoid for multi-label): what is evaluated, exported and run on the device."""

    def __init__(
        self,
        backbone: torch.nn.Module,
        normalise: Normalise,
        *,
        multi_label: bool = False,
        unknown: Unknown | None = None,
    ) -> None:
        super().__init__()
        self.normalise = normalise
        self.backbone = backbone
        self.multi_label = multi_label
        self.unknown = unknown

    def forward(self, image: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Map uint8 [N, H, W, 3] to probabilities float32 [N, C]; with `unknown`, also to bool [N]."""
        logits: torch.Tensor = self.backbone(self.normalise(image)).float()
        probabilities = logits.sigmoid() if self.multi_label else logits.softmax(-1)
        if self.unknown is None:
            return probabilities
        return probabilities, known_score(logits, self.unknown.by, self.multi_label) < self.unknown.threshold


def known_score(logits: torch.Tensor, by: UnknownBy, multi_label: bool) -> torch.Tensor:
    """Return float32 [N], the higher the more an image is like the known: see `zoo.contracts.unknown.Unknown`.

    Args:
        logits: float32 [N, C].
        by: How it is counted.
        multi_label: Whether a sigmoid makes probabilities of them.
    """
    if by == "max-logit":
        return logits.amax(-1)
    return torch.nn.functional.softplus(logits).sum(-1) if multi_label else logits.logsumexp(-1)
