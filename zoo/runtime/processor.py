"""What this machine computes with: its name, and whether its int8 products are exact."""

from __future__ import annotations

import functools
import platform
from pathlib import Path

import numpy as np

PROBE = (
    b'\x08\x08:\\\n\x18\n\x01a\n\x01b\x12\x01c"\rMatMulInteger\x12\x01gZ\x13\n\x01a\x12\x0e\n\x0c\x08\x02\x12\x08\n\x02\x08\x02'
    b"\n\x02\x08\x02Z\x13\n\x01b\x12\x0e\n\x0c\x08\x03\x12\x08\n\x02\x08\x02\n\x02\x08\x01b\x13\n\x01c\x12\x0e\n\x0c\x08\x06\x12\x08"
    b"\n\x02\x08\x02\n\x02\x08\x01B\x04\n\x00\x10\n"
)
"""An ONNX file, c = MatMulInteger(a, b): uint8 [2, 2] by int8 [2, 1]; tests/runtime/test_processor.py writes it."""


def processor() -> str:
    """Return the name of the board or the processor, as the system tells it."""
    board = Path("/proc/device-tree/model")
    if board.is_file():
        return board.read_text(errors="replace").strip("\0 \n")
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text(errors="replace").splitlines() if cpuinfo.is_file() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@functools.cache
def saturates() -> bool:
    """Return whether onnxruntime adds pairs of int8 products in 16 bits here, as x86 does before VNNI.

    Two of 255 x 127 are then 32767. It is asked for just that, since what counts is the kernels that it chose: numpy's
    features know no AVX-VNNI, /proc/cpuinfo in an emulator is its host's, and Windows and macOS have none.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(PROBE, options, providers=["CPUExecutionProvider"])
        (sums,) = session.run(None, {"a": np.full((2, 2), 255, np.uint8), "b": np.full((2, 1), 127, np.int8)})
    except Exception:  # a build with few operators, which has a class of its own for that: slow is better than wrong
        return True
    return bool((sums != 2 * 255 * 127).any())


def kind() -> str:
    """Say in a line which kind of processor this is, as far as int8 goes."""
    if saturates():
        return f"{_arch()} without VNNI: int8 files that would saturate are computed exactly, at a cost of speed"
    return f"{_arch()} with exact int8 products{', as VNNI has them' if _arch() == 'x86-64' else ''}"


def _arch() -> str:
    machine = platform.machine().lower()
    return "x86-64" if machine in ("x86_64", "amd64") else machine
