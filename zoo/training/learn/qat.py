"""Quantization-aware training: int8's rounding in every pass, and gradients as if there were none.

Methods: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference"
(CVPR 2018, arXiv 1712.05877); Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference" (2018,
arXiv 1806.08342), whose advice on batch norms is followed: their statistics stand still. Norms that stand still only
scale the channels of the weights before them, and each channel of the weights has a scale of its own, so that rounding
the weights is the same before a norm is folded into them and after.

torch.ao.quantization has the same operators, behind modules that change the names of weights, or a tracer that many
families are beyond.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

from zoo.errors import OptionInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zoo.records.config import TrainConfig

LEAST_ACTIVATION, MOST_ACTIVATION = 0, 255
LEAST_WEIGHT, MOST_WEIGHT = -127, 127
SMALLEST_SCALE = 1e-9
FOLLOWS = 0.05
"""How far a range moves towards that of the batch."""
OBSERVED = 0.5
"""Share of a run's steps in which ranges move; then weights settle in ranges that do not."""
RANGE = "int8_input"
"""The part of a layer that rounds what goes into it."""


class RoundedInput(torch.nn.Module):
    """Rounds a tensor to 256 values between a moving minimum and maximum, zero among them, as uint8 holds it."""

    low: torch.Tensor
    high: torch.Tensor
    seen: torch.Tensor

    def __init__(self, batches: int, device: torch.device) -> None:
        """Take in how many batches the range follows what is seen, and where it is kept."""
        super().__init__()
        self.batches = batches
        self.register_buffer("low", torch.zeros((), device=device))
        self.register_buffer("high", torch.zeros((), device=device))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64, device=device))

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """Return it rounded, any shape; gradients pass where it lies inside the range."""
        if self.training:
            self._follow(value.detach())
        scale = ((self.high - self.low) / (MOST_ACTIVATION - LEAST_ACTIVATION)).clamp(min=SMALLEST_SCALE)
        zero = (-self.low / scale).round().to(torch.int32)
        rounded = torch.fake_quantize_per_tensor_affine(value.float(), scale, zero, LEAST_ACTIVATION, MOST_ACTIVATION)
        return rounded.to(value.dtype)

    @torch.no_grad()
    def _follow(self, value: torch.Tensor) -> None:
        low, high = (edge.float() for edge in value.aminmax())
        # Without a look at the numbers, which would wait for the device.
        share = torch.where(self.seen == 0, 1.0, torch.where(self.seen < self.batches, FOLLOWS, 0.0))
        self.low.lerp_(low.clamp(max=0), share)
        self.high.lerp_(high.clamp(min=0), share)
        self.seen += 1


class _RoundsInput(torch.nn.Module):
    """Stands before a layer's own class: what goes in is rounded."""

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        rounded: torch.Tensor = super().forward(getattr(self, RANGE)(value))
        return rounded


class _RoundsBoth(_RoundsInput):
    """The same, and whoever reads the weights gets them rounded; state and optimizer have them as they are."""

    @property
    def weight(self) -> torch.Tensor:
        weight = self._parameters["weight"]
        assert weight is not None
        return rounded_weight(weight)


def rounded_weight(weight: torch.Tensor) -> torch.Tensor:
    """Return a weight [channels out, ...] rounded to 255 values for each channel, symmetric around zero."""
    largest = weight.detach().abs().flatten(1).amax(1).float()
    scale = (largest / MOST_WEIGHT).clamp(min=SMALLEST_SCALE)
    zero = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight.float(), scale, zero, 0, LEAST_WEIGHT, MOST_WEIGHT)


def with_rounding(model: torch.nn.Module, steps: int) -> torch.nn.Module:
    """Return a copy of a model whose convolutions and linear layers compute with what int8 would hold.

    Args:
        model: Any; its weights keep their names and are not rounded themselves.
        steps: Batches of the whole run.
    """
    from timm.layers import ScaledStdConv2d, StdConv2d

    rounding = copy.deepcopy(model)
    for part in list(rounding.modules()):
        weight = part._parameters.get("weight")
        if not isinstance(part, torch.nn.Conv2d | torch.nn.Linear) or weight is None:
            continue
        # These make other weights of theirs in each pass, which are what an exporter sees.
        before = _RoundsInput if isinstance(part, StdConv2d | ScaledStdConv2d) else _RoundsBoth
        kind: Any = type(part)
        part.__class__ = type(f"Rounded{kind.__name__}", (before, kind), {})
        part.add_module(RANGE, RoundedInput(max(1, round(OBSERVED * steps)), weight.device))
    return rounding


def plain_weights(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a state dict without ranges, as the model has it that is not rounded."""
    return {name: value for name, value in state.items() if f"{RANGE}." not in name}


def check_qat(config: TrainConfig) -> None:
    """Raise OptionInvalid for what does not go with rounding, before anything is prepared."""
    if not config.qat:
        return
    if not config.parent:
        raise OptionInvalid("--qat goes on with a network that is trained; name its run with --from RUN")
    for flag, on in (("--probe", config.probe), ("--fsdp", config.fsdp)):
        if on:
            raise OptionInvalid(f"--qat moves whole weights step by step, which {flag} does not; leave {flag} out")
