"""What this machine is, as far as rows and page need it, and what the words of `--device` come to."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

from zoo.errors import OptionInvalid, first_line
from zoo.runtime.processor import processor

if TYPE_CHECKING:
    from bench.gpu_rows.report import Report

PACKAGES = (
    "torch", "torchvision", "timm", "triton", "numpy", "pillow", "simplejpeg", "opencv-python-headless",
    "albumentations", "scikit-learn", "onnx", "onnxruntime", "onnxruntime-gpu", "tensorrt", "torchcodec",
)  # fmt: skip
WORDS = ("auto", "cpu", "cuda", "cuda:0", "cuda:63", "mps", "gpu")


def machine(report: Report) -> None:
    """Tell versions, processor and cards."""
    import os

    report.figure("python", platform.python_version())
    report.figure("system", f"{platform.system()} {platform.machine()}")
    report.figure("processor", processor())
    report.figure("cores", len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0)
    for package in PACKAGES:
        try:
            report.figure(f"package {package}", importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            continue
    import torch

    report.figure("CUDA that torch was built for", torch.version.cuda or "none")
    if torch.cuda.is_available():
        _cards(report, torch)


def _cards(report: Report, torch: Any) -> None:
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        told = f"{about.name}, {about.total_memory / 1e9:.0f} GB, compute capability {about.major}.{about.minor}"
        report.figure(f"card {number}", told)
    report.figure("driver", driver())
    report.figure("cuDNN", torch.backends.cudnn.version() or 0)
    report.figure("NCCL", ".".join(map(str, torch.cuda.nccl.version())))
    # As they are before zoo is asked anything: it leaves both alone.
    report.figure("TF32 in matrix products", torch.get_float32_matmul_precision())
    report.figure("TF32 in cuDNN", bool(torch.backends.cudnn.allow_tf32))


def driver() -> str:
    """Return the driver's version."""
    if not shutil.which("nvidia-smi"):
        return "unknown"
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return (done.stdout.splitlines() or ["unknown"])[0]


def devices(report: Report) -> None:
    """Ask for every device, and keep what it comes to or the line that refuses it."""
    from zoo.records.config import TrainConfig
    from zoo.training.machine.choose import choose
    from zoo.training.machine.replica import check_replica
    from zoo.training.machine.world import ALONE

    asked: dict[str, dict[str, Any]] = {word: {"device": word} for word in WORDS}
    asked["fp16 on cpu"] = {"device": "cpu", "precision": "fp16"}
    asked["--fsdp alone"] = {"fsdp": True}
    asked["--sync-batchnorm alone"] = {"sync_batchnorm": True}
    for name, options in asked.items():
        config = TrainConfig(model="resnet50", dataset="-", **options)
        try:
            check_replica(config, ALONE)
            chosen = choose(config)
        except OptionInvalid as exc:
            report.figure(name, f"refused: {first_line(exc)[:160]}")
        else:
            report.figure(name, f"{chosen.device}, {chosen.precision}, {chosen.layout}")
