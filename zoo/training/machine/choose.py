"""What `auto` comes to before the model is known: device, threads, and the usual precision and layout."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from zoo.errors import OptionInvalid, first_line
from zoo.training.machine.world import ALONE

if TYPE_CHECKING:
    from zoo.data.cache import Asked
    from zoo.data.splits import Rule
    from zoo.records.config import TrainConfig
    from zoo.training.machine.world import World

Precision = Literal["fp32", "bf16", "fp16"]
Layout = Literal["nchw", "nhwc"]

USUAL_BATCH = 64
"""Images a step where `batch_size` is a word, until it has come to a number."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What `auto` came to on this machine; written into the run, and kept by a resume."""

    device: str
    precision: Precision
    layout: Layout
    threads: int
    """Of PyTorch on the CPU: another number gives other bits."""
    cache: Asked = "off"
    """Where decoded images are kept; with a cache they are scaled down first, which gives other batches."""
    split_rule: Rule | None = None
    """By what images were told apart when splits were cut; None until they are."""
    batch_size: int = 0
    """Images a batch, of all processes together."""
    epochs: int = 0
    """Passes over the training images; 0 in runs from before it was chosen."""
    processes: int = 1
    """That trained; another number gives other bits."""


def choose(config: TrainConfig, world: World = ALONE) -> Chosen:
    """Replace every `auto` by what is best on this machine as a rule; `settle` looks at the model as well.

    Raises:
        OptionInvalid: a device that is not there.
    """
    device = world.device(config.device if config.device != "auto" else _best_device())
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as exc:
        raise OptionInvalid(f"--device {device} cannot be used here: {first_line(exc)}; try --device cpu") from exc
    if config.precision == "fp16" and device == "cpu":
        raise OptionInvalid("--precision fp16 needs a GPU; on a CPU use bf16, fp32 or auto")
    precision = config.precision if config.precision != "auto" else usual_precision(device)
    # Pixels arrive channels last, and that is the faster layout for convolutions wherever bf16 is (measured).
    layout = (
        config.layout if config.layout != "auto" else ("nchw" if precision == "fp32" and device == "cpu" else "nhwc")
    )
    return Chosen(
        device=device,
        precision=precision,
        layout=layout,
        threads=config.threads or max(1, torch.get_num_threads() // world.local_size),
        cache=config.cache,
        batch_size=config.batch_size if isinstance(config.batch_size, int) else USUAL_BATCH,
        epochs=config.epoch_count,
        processes=world.size,
    )


def usual_precision(device: str) -> Precision:
    """Return bf16 where the hardware computes with it, else fp32."""
    return "bf16" if _has_bf16(device) else "fp32"


def autocast(device: str, precision: Precision) -> contextlib.AbstractContextManager[object]:
    """Return the context in which forward passes run."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(torch.device(device).type, torch.bfloat16 if precision == "bf16" else torch.float16)


def laid_out(model: torch.nn.Module, layout: Layout) -> torch.nn.Module:
    """Return the model itself, what it has of rank 4 in that order of memory.

    `Module.to` would do it, but fails on a model with 3-d convolutions, whose rank is 5.
    """
    form = torch.channels_last if layout == "nhwc" else torch.contiguous_format
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.dim() == 4 and tensor.is_floating_point():
            tensor.data = tensor.data.contiguous(memory_format=form)
    return model


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _has_bf16(device: str) -> bool:
    if device.startswith("cuda"):
        # It asks the current GPU, which need not be the one that was named.
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False
