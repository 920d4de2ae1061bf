"""Which part of the machine runs a file in onnxruntime: the processor, or the GPU that was asked for and no other."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CPU = "cpu"
PROVIDERS = {CPU: "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
"""What users write -> onnxruntime's name. A number may follow: "cuda:1" is the second card."""
# TF32 keeps 10 bits of a float's 23, which would move answers further than a proof allows.
SETTINGS = {"cuda": {"use_tf32": "0"}, "tensorrt": {}}
ORT_WARNING, ORT_FATAL = 2, 4
"""onnxruntime's usual level of logging, and the highest."""


def check_provider(provider: str) -> None:
    """Raise BundleError unless `provider` is a word of `PROVIDERS`, perhaps with the number of a card."""
    _parts(provider)


def open_session(model: str, options: Any, *, provider: str = CPU, without: Sequence[str] = ()) -> Any:
    """Open a file so that it runs where it was asked for, or not at all.

    By itself onnxruntime goes on with the processor where a provider does not load, and also after one failed.

    Args:
        model: The file.
        options: onnxruntime's `SessionOptions`.
        provider: A word of `PROVIDERS`, perhaps with the number of a card.
        without: Optimizers that are left out.

    Raises:
        BundleError: there is no such provider, or it does not load here.
        Exception: the file cannot be run; onnxruntime has a class of its own for each status.
    """
    import onnxruntime

    word, number = _parts(provider)
    name = PROVIDERS[word]
    if word == CPU:
        return onnxruntime.InferenceSession(model, options, providers=[name], disabled_optimizers=without)
    if name not in onnxruntime.get_available_providers():
        raise BundleError(f"this onnxruntime was built without {name}; install onnxruntime-gpu, or use cpu")
    asked = [(name, {"device_id": number, **SETTINGS[word]}), PROVIDERS[CPU]]
    with _silent():
        if hasattr(onnxruntime, "preload_dlls"):
            # CUDA's libraries may have come with wheels of NVIDIA's, where the loader does not look.
            onnxruntime.preload_dlls(directory="")
        try:
            session = onnxruntime.InferenceSession(
                model, options, providers=asked, disabled_optimizers=without, enable_fallback=0
            )
        except RuntimeError as exc:
            raise BundleError(_absent(provider, str(exc))) from exc
    if name not in session.get_providers():
        raise BundleError(_absent(provider, "it did not load"))
    return session


def _parts(provider: str) -> tuple[str, str]:
    word, colon, number = provider.partition(":")
    if word not in PROVIDERS or (colon and (word == CPU or not number.isdecimal())):
        raise BundleError(f"provider {provider!r} is unknown; use {', '.join(PROVIDERS)}, or cuda:1 for the second GPU")
    return word, number or "0"


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep onnxruntime from the terminal: it tells a page of a library that is missing, some of it on stdout."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(ORT_FATAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        onnxruntime.set_default_logger_severity(ORT_WARNING)


def _absent(provider: str, reason: str) -> str:
    found = _missing_library(provider.partition(":")[0]) or reason.splitlines()[0]
    return f"provider {provider} does not load here: {found}; install what it needs, or use cpu"


def _missing_library(word: str) -> str:
    """Return what the loader says of the first library that a provider lacks; empty where it says nothing."""
    import ctypes

    import onnxruntime

    library = Path(onnxruntime.__file__).parent / "capi" / f"libonnxruntime_providers_{word}.so"
    if not library.is_file():
        return ""
    try:
        ctypes.CDLL(str(library))
    except OSError as exc:
        return str(exc)
    return ""
