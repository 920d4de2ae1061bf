"""A TorchScript file behind a callable, with the threads and the quantized engine that it was made for."""

from __future__ import annotations

import contextlib
import platform
import re
import warnings
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch

ARM = frozenset({"aarch64", "arm64"})


class TorchScriptPredictor:
    """Raw pixels, uint8 [N, H, W, 3], to probabilities, float32 [N, classes], in torch on the CPU."""

    def __init__(self, module: torch.jit.ScriptModule, *, engine: str = "", threads: int = 0) -> None:
        # The bare method: through `__call__` a warning would be torch's own module's.
        self._forward: Callable[[torch.Tensor], torch.Tensor] = module.forward
        self._engine = engine
        self._threads = threads

    def __call__(self, images: np.ndarray) -> np.ndarray:
        import torch

        # Quantized kernels warn of their own limits at every call. The filter is for this module's lines alone, and it
        # stays, for taking it back would disturb other threads.
        warnings.filterwarnings("ignore", module=re.escape(__name__))
        with torch.inference_mode(), _using_threads(self._threads), using_engine(self._engine):
            return np.asarray(self._forward(as_tensor(images)).numpy())


def as_tensor(images: np.ndarray) -> torch.Tensor:
    """Share the memory of `images` with a tensor, where torch allows it without a warning."""
    import torch

    return torch.from_numpy(images if images.flags.writeable and images.flags.c_contiguous else images.copy())


def best_engine() -> str:
    """Name the quantized engine that suits this machine."""
    import torch

    on_arm = platform.machine().lower() in ARM
    return "x86" if not on_arm and "x86" in torch.backends.quantized.supported_engines else "qnnpack"


def runnable_engine(engine: str) -> str:
    """Return `engine` if this machine has it, else its best one: the file holds plain weights that any engine packs."""
    import torch

    return engine if engine in ("", *torch.backends.quantized.supported_engines) else best_engine()


@contextlib.contextmanager
def using_engine(engine: str) -> Iterator[None]:
    """Make `engine` torch's quantized engine inside; an empty name leaves it as it is."""
    import torch

    before = torch.backends.quantized.engine
    if engine in ("", before):
        yield
        return
    torch.backends.quantized.engine = engine
    try:
        yield
    finally:
        torch.backends.quantized.engine = before


@contextlib.contextmanager
def _using_threads(threads: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    if threads in (0, before):
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
