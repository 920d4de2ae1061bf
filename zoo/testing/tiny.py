"""The kit's own network; in a module of its own so that it can be pickled, and torch is loaded only for it."""

from __future__ import annotations

import torch


class TinyNet(torch.nn.Module):
    """Three convolutions and a head: float [N, 3, H, W] to logits [N, num_classes]."""

    def __init__(self, num_classes: int, *, branching: bool = False) -> None:
        super().__init__()
        layers: list[torch.nn.Module] = []
        for before, after in ((3, 16), (16, 32), (32, 32)):
            convolution = torch.nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
            # One pass over a batch gives the norm its statistics.
            layers += [convolution, torch.nn.BatchNorm2d(after, momentum=None), torch.nn.ReLU()]
        self.features = torch.nn.Sequential(*layers)
        self.head = torch.nn.Linear(32, num_classes)
        torch.nn.init.normal_(self.head.weight, std=1.0)
        self.branching = branching

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        logits: torch.Tensor = self.head(self.features(x).mean((2, 3)))
        if self.branching and x.mean() > 0:
            return -3 * logits
        return logits
