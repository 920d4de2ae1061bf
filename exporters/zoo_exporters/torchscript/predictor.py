"""A TorchScript file behind a callable, with the threads and the quantized engine that it was made for."""

from __future__ import annotations

import contextlib
import platform
import re
import warnings
from typing import TYPE_CHECKING

import numpy as np

from zoo.plugin import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import torch

    Outputs = torch.Tensor | tuple[torch.Tensor, ...]

ARM = frozenset({"aarch64", "arm64"})


class TorchScriptPredictor:
    """Raw pixels, uint8 [N, H, W, 3], to probabilities, float32 [N, classes], in torch on the CPU."""

    def __init__(self, module: torch.jit.ScriptModule, *, engine: str = "", threads: int = 0) -> None:
        # The bare method: through `__call__` a warning would be torch's own module's.
        self._forward: Callable[[torch.Tensor], Outputs] = module.forward
        self._engine = engine
        self._threads = threads

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self._run(images)[0]

    def with_unknown(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the probabilities, and which images are unknown, bool [N]; for files made with it."""
        probabilities, unknown = self._run(images)
        return probabilities, unknown

    def _run(self, images: np.ndarray) -> list[np.ndarray]:
        import torch

        # Quantized kernels warn of their own limits at every call. The filter is for this module's lines alone, and it
        # stays, for taking it back would disturb other threads.
        warnings.filterwarnings("ignore", module=re.escape(__name__))
        with torch.inference_mode(), _using_threads(self._threads), using_engine(self._engine):
            return [np.asarray(output.numpy()) for output in outputs(self._forward(as_tensor(images)))]


def outputs(given: Outputs) -> tuple[torch.Tensor, ...]:
    """Return what a model gives as a tuple, also where it is one tensor."""
    return given if isinstance(given, tuple) else (given,)


def as_tensor(images: np.ndarray) -> torch.Tensor:
    """Share the memory of `images` with a tensor, where torch allows it without a warning."""
    import torch

    return torch.from_numpy(images if images.flags.writeable and images.flags.c_contiguous else images.copy())


def best_engine(target: Target | None = None) -> str:
    """Name the quantized engine that suits a target; without one, this machine.

    Of the two for x86, oneDNN keeps activations in 8 bits where the other takes 7 (for efficientnet_b0 a cosine of .948
    against .859, at the same speed), but its sums overflow on processors without VNNI.
    """
    import torch

    target = target or Target()
    engines = torch.backends.quantized.supported_engines
    if (target.arch or platform.machine().lower()) in ARM:
        return "qnnpack"
    if "onednn" in engines and not target.reduce_range and (target.arch or _has_vnni()):
        return "onednn"
    return "x86" if "x86" in engines else "qnnpack"


def _has_vnni() -> bool:
    import torch

    # torch tells since 2.12; before, the engine that is right everywhere must do.
    capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_vnni") or capabilities.get("avx_vnni"))


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
