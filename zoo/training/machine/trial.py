"""Training steps of a copy of the model on made-up pixels: how long, how much memory; nothing of the run moves."""

from __future__ import annotations

import contextlib
import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from zoo.contracts.shipped import Normalise
from zoo.training.machine.choose import autocast, laid_out

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zoo.contracts.preprocess import Preprocess
    from zoo.training.machine.choose import Layout, Precision


@dataclass(frozen=True, kw_only=True)
class Mode:
    """How a step computes."""

    precision: Precision
    layout: Layout

    def __str__(self) -> str:
        return f"{self.precision}, {self.layout}"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What steps are tried with."""

    model: torch.nn.Module
    """The run's own: copied, never run."""
    preprocess: Preprocess
    device: str

    def copied(self, layout: Layout) -> torch.nn.Module:
        """Return a copy of the model on the device, in training mode."""
        return laid_out(copy.deepcopy(self.model).to(self.device), layout).train()

    def pixels(self, images: int) -> torch.Tensor:
        """Return noise, uint8 [images, H, W, 3], on the device."""
        return torch.randint(0, 256, (images, *self.preprocess.size, 3), dtype=torch.uint8).to(self.device)

    def step(self, model: torch.nn.Module, pixels: torch.Tensor, mode: Mode) -> float:
        """Run forward and backward, wait for the device, and return the loss."""
        model.zero_grad(set_to_none=True)
        with autocast(self.device, mode.precision):
            normalise = Normalise(self.preprocess.mean, self.preprocess.std).to(self.device)
            images = normalise(pixels)
            logits = model(images if mode.layout == "nhwc" else images.contiguous())
            loss = torch.nn.functional.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.int64))
        loss.backward()  # type: ignore[no-untyped-call]
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)
        return float(loss.detach())

    def loses_gradients_in_bf16(self) -> bool:
        """Tell whether a strided convolution gets a map smaller than its stride, as late layers of small images do.

        PyTorch's bf16 kernels for CPUs then leave a part of its gradient as the memory was: garbage, sometimes NaN.
        """
        if self.device != "cpu":
            return False
        model, found = self.copied("nchw").eval(), []

        def look(part: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            height, width = inputs[0].shape[-2:]
            assert isinstance(part, torch.nn.Conv2d)
            found.append(height < part.stride[0] or width < part.stride[1])

        for part in model.modules():
            if isinstance(part, torch.nn.Conv2d):
                part.register_forward_pre_hook(look)
        with undisturbed(), torch.no_grad():
            model(torch.zeros(1, 3, *self.preprocess.size))
        return any(found)

    def dies_in_nhwc(self) -> bool:
        """Tell whether there is a strided 1 x 1 convolution of few channels, as MobileOne and FastViT begin with.

        For its gradient PyTorch's kernels for CPUs (2.15) write beyond their memory where channels are last: the
        process dies, then or later. From 16 channels on they do not.
        """
        return self.device == "cpu" and any(
            isinstance(part, torch.nn.Conv2d)
            and part.kernel_size == (1, 1)
            and part.stride != (1, 1)
            and part.groups == 1
            and part.in_channels < 16
            for part in self.model.modules()
        )


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Give torch's random state back afterwards as it was, on every device, and let none tell of this memory."""
    devices = range(torch.cuda.device_count())
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(0)
        yield
    torch.cuda.empty_cache()
    # The most that training takes is told later, and a search for the largest batch fills a card on purpose.
    for device in devices if torch.cuda.is_initialized() else ():  # type: ignore[no-untyped-call]
        torch.cuda.reset_peak_memory_stats(device)
