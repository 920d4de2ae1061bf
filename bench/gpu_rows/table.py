"""The rows of `bench/gpu.py`: a question each, where it is answered, what that needs, and how long it may take."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Row:
    """A question, and the function that answers it in a process of its own."""

    name: str
    question: str
    call: str
    """module:function, which takes a `Report`."""
    limit: float
    """Seconds until it is ended; of these the imports alone may take ten."""
    cards: int = 1
    """GPUs that it needs; with 0 a machine without any can answer."""
    needs: tuple[str, ...] = ()
    """Top-level modules that it imports, beyond the standard library and this repository."""

    def __post_init__(self) -> None:
        assert ":" in self.call, self.call


STEPS = ("torch", "torchvision", "numpy", "timm", "yaml", "pydantic", "PIL", "simplejpeg", "threadpoolctl")
"""What a step of training needs; timm asks for some of them."""
FILES = ("cv2", "albumentations", "scipy")
"""What images need from the file on."""
RUN = (*STEPS, *FILES, "sklearn", "docstring_parser", "safetensors", "jinja2", "rich", "filelock", "platformdirs")
"""What a whole run needs."""
FILE = (*RUN, "onnx", "onnxscript", "onnxruntime")
"""What it takes to make a proven ONNX file."""
SERVE = (*FILE, "typer", "fastapi", "uvicorn", "httptools", "prometheus_client")


def _row(name: str, question: str, call: str, limit: float, cards: int = 1, needs: tuple[str, ...] = RUN) -> Row:
    return Row(
        name=name, question=question, call=f"bench.gpu_rows.{call}", limit=limit, cards=cards, needs=tuple(needs)
    )


def _rows() -> list[Row]:
    rows = [
        _row("devices", "What do the words of --device come to here?", "facts:devices", 40, 0, STEPS),
        _row(
            "providers",
            "Which providers has onnxruntime here, and which can make a session?",
            "graphs:providers",
            40,
            0,
            ("numpy", "onnx", "onnxruntime"),
        ),
        _row(
            "step-cpu",
            "zoo's step beside a bare PyTorch loop and timm's, tiny network, CPU time of one thread",
            "steps:on_cpu",
            60,
            0,
            STEPS,
        ),
        _row(
            "resume-cpu", "Does a saved state go on to the same bits on the CPU?", "state:resume_on_cpu", 40, 0, STEPS
        ),
        _row(
            "binding-cpu",
            "onnxruntime on the CPU with io binding beside plain calls, by batch",
            "graphs:binding_on_cpu",
            40,
            0,
            ("numpy", "onnx", "onnxruntime"),
        ),
        _row(
            "step",
            "resnet50, 224 px, bf16, channels_last: zoo's step beside a bare loop and timm's; memory",
            "steps:eager",
            75,
            1,
            STEPS,
        ),
        _row("compile", "The same with torch.compile on all sides", "steps:compiled", 170, 1, STEPS),
        _row(
            "files",
            "Epochs of JPEG files through zoo's loader beside arrays from memory",
            "files:real",
            120,
            1,
            STEPS,
        ),
        _row(
            "resume",
            "Does a saved state go on to the same bits on the GPU, deterministic or not?",
            "state:resume_on_gpu",
            60,
            1,
            STEPS,
        ),
        _row(
            "out-of-memory",
            "Training with a batch that cannot fit: does it go on with smaller ones?",
            "runs:out_of_memory",
            60,
            1,
            RUN,
        ),
        _row(
            "batch-auto",
            "--batch-size auto: what fits, and does a run with it go through?",
            "steps:auto_batch",
            60,
            1,
            STEPS,
        ),
        _row(
            "fp16",
            "fp16 with GradScaler, accumulation and clipping: does it learn, and what does the scale do?",
            "state:fp16",
            40,
            1,
            STEPS,
        ),
        _row(
            "onnx-cuda",
            "The proof on CUDAExecutionProvider: answers on all images; io binding, batches",
            "graphs:on_cuda",
            80,
            1,
            FILE,
        ),
        _row("onnx-tensorrt", "The same on TensorrtExecutionProvider", "graphs:on_tensorrt", 100, 1, FILE),
        _row(
            "nccl",
            "DistributedDataParallel over NCCL, one process: the same weights as without, and its cost",
            "processes:nccl",
            50,
            1,
            STEPS,
        ),
        _row("fsdp", "FSDP over NCCL, one process: the same weights as without", "processes:fsdp", 50, 1, STEPS),
        _row(
            "sync-batchnorm",
            "SyncBatchNorm over NCCL, one process: the same statistics as without",
            "processes:sync_batchnorm",
            50,
            1,
            STEPS,
        ),
        _row(
            "resume-run",
            "A whole run, stopped and gone on with: the same best weights and metrics?",
            "runs:resumed",
            90,
            1,
            RUN,
        ),
        _row(
            "jpeg",
            "JPEG files decoded on the GPU beside zoo's threads",
            "files:jpeg_on_gpu",
            40,
            1,
            (*STEPS, "torchcodec"),
        ),
        _row(
            "serve-cuda",
            "`zoo predict` and `zoo serve` with CUDAExecutionProvider: the same answers?",
            "graphs:serving",
            80,
            1,
            SERVE,
        ),
        _row(
            "many",
            "`zoo train --devices N`: DDP, FSDP and SyncBatchNorm on all cards",
            "processes:many",
            150,
            2,
            (*RUN, "typer"),
        ),
    ]
    # Who has a card for two minutes only gets what asks for one, and the dearest questions first.
    return sorted(rows, key=lambda row: not row.cards)


ROWS = {row.name: row for row in _rows()}


def matching(patterns: list[str] | None, rows: dict[str, Row]) -> list[Row]:
    """Return the rows that a name or a glob among the patterns fits, in their own order; without patterns all.

    Raises:
        SystemExit: nothing fits one of them.
    """
    for pattern in patterns or ():
        if not fnmatch.filter(rows, pattern):
            raise SystemExit(f"no row is named {pattern!r}; there are {', '.join(rows)}")
    return [row for name, row in rows.items() if not patterns or any(fnmatch.fnmatch(name, p) for p in patterns)]
