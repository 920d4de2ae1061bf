"""How fast the model is on this machine, and how much memory it takes; the figures go back into the manifest."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .golden import read_golden
from .manifest import MANIFEST
from .processor import processor, saturates
from .providers import CPU
from .sums import SUMS, read_sums, sha256, sums_text

if TYPE_CHECKING:
    from .model import Model

MEASURED = "measured"
"""The manifest's key for what devices found: a list, the newest last."""
MOST_KEPT = 20
WARM_UP = 5
LEAST_ROUNDS = 20
STARTS = 3
ONE_ANSWER = (
    "import sys; from {package}.measure import first_answer; first_answer(sys.argv[1], int(sys.argv[2]), sys.argv[3])"
)


def measure(model: Model, *, seconds: float = 5.0) -> dict[str, Any]:
    """Time the network on golden images, one at a time, and a whole start of the program.

    Returns:
        Milliseconds `p50`, `p95`, `p99`, `cold_start`; `images_per_second`; `peak_memory_mb` of the process (null where
        the system does not tell); and what it was measured with.
    """
    images = list(read_golden(model.folder)["images"])
    for image in images[:WARM_UP]:
        model.ask([image])
    rounds: list[float] = []
    end = time.perf_counter() + seconds
    while len(rounds) < LEAST_ROUNDS or time.perf_counter() < end:
        begin = time.perf_counter()
        model.ask([images[len(rounds) % len(images)]])
        rounds.append(1e3 * (time.perf_counter() - begin))
    p50, p95, p99 = (round(float(np.percentile(rounds, q)), 4) for q in (50, 95, 99))
    return {
        "p50": p50,
        "p95": p95,
        "p99": p99,
        "images_per_second": round(1e3 * len(rounds) / sum(rounds), 2),
        "cold_start": round(cold_start(model), 1),
        "peak_memory_mb": peak_memory_mb(),
        "rounds": len(rounds),
        "threads": model.threads,
        "provider": model.provider,
        "machine": machine(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def cold_start(model: Model) -> float:
    """Return milliseconds from starting Python to the first answer, checks and imports included: the median."""
    code = ONE_ANSWER.format(package=__package__)
    home = str(Path(__file__).resolve().parents[len(str(__package__).split("."))])
    path = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH", "")]))
    taken = []
    for _ in range(STARTS):
        begin = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", code, str(model.folder.resolve()), str(model.threads), model.provider],
            check=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        taken.append(1e3 * (time.perf_counter() - begin))
    return float(np.median(taken))


def first_answer(folder: str, threads: int | None = None, provider: str = CPU) -> None:
    """Do what a device does at its start: check and load the model, and answer one golden image."""
    from .model import Model

    model = Model(folder, threads=threads, provider=provider)
    model.ask(list(read_golden(model.folder)["images"][:1]))


def peak_memory_mb() -> float | None:
    """Return the most memory that this process ever held, in megabytes; None where the system does not tell."""
    try:
        # Rather than `resource`: Linux counts there what the parent held when it started this process.
        lines = Path("/proc/self/status").read_text().splitlines()
        return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1.024e-3, 1)
    except (OSError, ValueError, IndexError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)


def machine() -> dict[str, Any]:
    """Return what figures depend on."""
    import onnxruntime

    return {
        "processor": processor(),
        "arch": platform.machine(),
        "saturates": saturates(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
    }


def write_back(folder: Path, figures: dict[str, Any]) -> None:
    """Add figures to the manifest's `measured`, and renew its checksum; both files are whole at every moment."""
    file = folder / MANIFEST
    values = json.loads(file.read_bytes())
    values[MEASURED] = [*values.get(MEASURED, []), figures][-MOST_KEPT:]
    text = json.dumps(values, indent=2, allow_nan=False) + "\n"
    bundled = (folder / SUMS).exists()
    sums = read_sums(folder) if bundled else {}
    _replace(file, text)
    if bundled:
        _replace(folder / SUMS, sums_text({**sums, MANIFEST: sha256(file)}))


def _replace(file: Path, text: str) -> None:
    part = file.with_name(f".{file.name}.part")
    with part.open("w", encoding="utf-8", newline="\n") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())
    part.replace(file)
