"""TorchScript at fp32, int8 and with dynamic Linear layers, run by torch.

Load only files that a manifest's checksum covers, as zoo does: `torch.jit.load` runs the code in the file.
"""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Any, ClassVar

from zoo.errors import ArtifactInvalid, ExportUnsupported, ZooError
from zoo.plugin import Made
from zoo_exporters.quiet import quiet, reason
from zoo_exporters.torchscript.predictor import (
    TorchScriptPredictor,
    best_engine,
    outputs,
    runnable_engine,
    using_engine,
)

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from zoo.plugin import ExportRequest, Predictor

ENGINE_FILE = "zoo_quantized_engine"
"""The file inside the archive that names the quantized engine; empty for fp32."""
SOURCE_MAPS = ".debug_pkl"
TOLERANCE = 5e-3
"""Of a probability, between the trace and its original: an ulp of difference may grow, a branch not taken is gross."""


class TorchScriptExporter:
    """A traced and frozen module, its batch size free."""

    suffix: ClassVar[str] = ".pt"
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "int8", "dynamic")
    tells_unknown: ClassVar[bool] = True

    def export(self, request: ExportRequest, out: Path) -> Made:
        """Write the model file.

        Raises:
            ExportUnsupported: the model cannot be traced, or not quantized.
        """
        try:
            with quiet():
                archive, made = _archive(request)
                data = _without_source_maps(archive)
        except (ZooError, OSError):
            raise
        except Exception as exc:
            raise ExportUnsupported(
                f"torchscript {request.precision} failed: {reason(exc)}; {_way_out(request.precision)}"
            ) from exc
        out.write_bytes(data)
        return made

    def open(self, model_file: Path, *, threads: int = 0) -> Predictor:
        """Load a model file on the CPU. This runs the file's code: see the module's docstring.

        Raises:
            ArtifactInvalid: torch does not take the file.
        """
        try:
            with quiet():
                return _load(model_file, threads)
        except Exception as exc:  # torch.jit raises RuntimeError, ValueError, UnicodeDecodeError and more
            raise ArtifactInvalid(
                f"{model_file}: torch cannot load it ({reason(exc)}); export it again with `zoo export --torchscript`"
            ) from exc


def _way_out(precision: str) -> str:
    return "try --onnx or another backbone" if precision == "fp32" else "use --onnx --int8 or --torchscript --fp32"


def _archive(request: ExportRequest) -> tuple[bytes, Made]:
    import torch

    engine = "" if request.precision == "fp32" else best_engine(request.target)
    buffer = io.BytesIO()
    # Observers draw random numbers that nobody uses.
    with using_engine(engine), torch.random.fork_rng(devices=[]):
        model, made = _converted(request, engine)
        traced = _trace(model, request)
        torch.jit.save(torch.jit.freeze(traced), buffer, _extra_files={ENGINE_FILE: engine.encode()})
    return buffer.getvalue(), made


def _converted(request: ExportRequest, engine: str) -> tuple[torch.nn.Module, Made]:
    """Return the model in the request's precision, in eager form."""
    from zoo_exporters.torchscript.dynamic import quantize_linears
    from zoo_exporters.torchscript.int8 import NotTraceable, quantize

    if request.precision == "fp32":
        return request.model, Made()
    notes = [f"made for torch's quantized engine {engine}"]
    if request.precision == "int8":
        try:
            return quantize(request, engine), Made(notes=tuple(notes))
        except NotTraceable as exc:
            if not request.fallback:
                raise
            notes.append(f"FX cannot trace this {type(request.backbone).__name__} ({exc})")
    model, share = quantize_linears(request)
    notes.append(f"Linear layers are int8, {share:.0%} of the weights; the rest is float")
    return model, Made(notes=tuple(notes))


def _trace(model: torch.nn.Module, request: ExportRequest) -> Any:
    """Trace with a batch of two, and ask the trace about pixels and batch sizes that it was not made with."""
    import torch

    noise = torch.randint(
        256, (5, *request.preprocess.size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    probes = (torch.zeros_like(noise[:1]), torch.full_like(noise[:1], 255), noise)
    with torch.no_grad():
        traced = torch.jit.trace(model, (noise[:2],), check_trace=False)  # type: ignore[no-untyped-call]
        for probe in probes:
            if not _agree(traced, model, probe):
                raise ExportUnsupported(
                    f"torchscript {request.precision}: the trace answers differently from the model on other pixels or "
                    f"batch sizes, so its Python code depends on them; {_way_out(request.precision)}"
                )
    return traced


def _agree(traced: Any, model: torch.nn.Module, probe: torch.Tensor) -> bool:
    import torch

    # Of several outputs the first: what is unknown is decided by the same logits.
    expected = outputs(model(probe))[0]
    try:
        found = outputs(traced(probe))[0]
    except RuntimeError:  # a shape that the trace took for a constant
        return False
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=0.0, atol=TOLERANCE, equal_nan=True)


def _without_source_maps(archive: bytes) -> bytes:
    """Leave out the tables from code to source lines: torch does without, and they name files of this machine."""
    slim = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(slim, "w") as new:
        for entry in old.infolist():
            if not entry.filename.endswith(SOURCE_MAPS):
                new.writestr(entry, old.read(entry))
    return slim.getvalue()


def _load(model_file: Path, threads: int) -> TorchScriptPredictor:
    import torch

    # torch.jit.load packs the weights for the engine, so its name must be known before.
    with zipfile.ZipFile(model_file) as archive:
        names = [name for name in archive.namelist() if name.endswith(f"/extra/{ENGINE_FILE}")]
        engine = runnable_engine(archive.read(names[0]).decode() if names else "")
    with using_engine(engine):
        if engine:
            # torch warns once a process that quantized tensors are deprecated; from torch.jit.load it would go straight
            # to the terminal, from here it is a Python warning and stays inside `quiet`.
            torch.quantize_per_tensor(torch.zeros(1), 1.0, 0, torch.quint8)
        module = torch.jit.load(str(model_file), map_location="cpu").eval()  # type: ignore[no-untyped-call]
    return TorchScriptPredictor(module, engine=engine, threads=threads)
