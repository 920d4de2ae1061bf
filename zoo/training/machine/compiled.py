"""`--compile`: the forward pass of training, compiled; names and values of the weights stay as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from zoo.errors import OptionInvalid, first_line

if TYPE_CHECKING:
    from collections.abc import Callable


def compiled(model: torch.nn.Module, device: str, backend: str = "inductor") -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function that computes what the model does; the model itself, and so its state_dict, is as before.

    Args:
        model: On the device; its weights are shared.
        device: Asked once whether anything can be compiled for it, which takes some seconds.
        backend: Of torch.compile.

    Raises:
        OptionInvalid: there is no compiler, or none for this device.
    """
    try:
        torch.compile(torch.sin, backend=backend)(torch.ones(2, device=device))
    except Exception as exc:  # each backend has errors of its own
        raise OptionInvalid(f"--compile cannot be used here: {first_line(exc)}; leave it out") from exc
    forward: Callable[[torch.Tensor], torch.Tensor] = torch.compile(model, backend=backend)
    return forward
