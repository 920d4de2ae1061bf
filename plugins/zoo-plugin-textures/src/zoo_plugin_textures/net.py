"""The network behind texture-net; imports torch, so it is itself imported only when one is made."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class TextureNet(nn.Module):
    """Blocks of convolution, batch norm and ReLU, then the mean over the picture, then one linear layer."""

    def __init__(self, num_classes: int, width: int, depth: int) -> None:
        super().__init__()
        channels = [3, *(width * 2**block for block in range(depth))]
        self.blocks = nn.Sequential(*(_block(channels[i], channels[i + 1]) for i in range(depth)))
        self.head = nn.Linear(channels[-1], num_classes)
        self.pretrained_cfg: dict[str, Any] = {
            "input_size": (3, 64, 64),
            "num_classes": num_classes,
            "mean": (0.5, 0.5, 0.5),
            "std": (0.25, 0.25, 0.25),
            "interpolation": "bilinear",
            "crop_mode": "center",
            "crop_pct": 1.0,
        }

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits [N, num_classes] of float [N, 3, H, W]."""
        features: torch.Tensor = self.blocks(images)
        logits: torch.Tensor = self.head(features.mean(dim=(2, 3)))
        return logits


def _block(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel_size=3, stride=2, padding=1, bias=False),
        # A short run has some 35 steps; with the usual 0.1 the running statistics would still lag behind at its end.
        nn.BatchNorm2d(channels_out, momentum=0.3),
        nn.ReLU(),
    )
