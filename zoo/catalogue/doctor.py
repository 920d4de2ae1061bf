"""The checks of `zoo doctor`; whatever could crash is tried in a process of its own."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.catalogue.condition import conditions
from zoo.disk.home import zoo_home

if TYPE_CHECKING:
    from zoo.catalogue import Catalogue
    from zoo.catalogue.condition import Condition

IMPORT_SECONDS = 120
ONNXRUNTIMES = ("onnxruntime", "onnxruntime-gpu")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: str
    """"ok", "note" or "broken"."""
    detail: str
    mend: str = ""


def examine(catalogue: Catalogue) -> list[Check]:
    """Look at everything; nothing raises."""
    return [
        Check("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        _torch(),
        _onnxruntime_once(),
        _onnxruntime(),
        *_processor(),
        _home(),
        *(_plugin(condition) for condition in conditions(catalogue, check=True)),
    ]


def _torch() -> Check:
    code = "import torch, torchvision, timm; print(torch.__version__, torchvision.__version__, timm.__version__)"
    done = _python(f"{code}; print('cuda' if torch.cuda.is_available() else 'cpu')")
    if done.returncode == 0:
        versions, device = done.stdout.strip().splitlines()[-2:]
        torch_, vision, timm = versions.split()
        return Check("torch and timm", "ok", f"torch {torch_}, torchvision {vision}, timm {timm}, on {device}")
    return diagnose_torch(done.stderr)


def diagnose_torch(error: str) -> Check:
    """Recognise why torch, torchvision or timm cannot be imported."""
    last = error.strip().splitlines()[-1] if error.strip() else "no output"
    if "torchvision::nms" in error or "torchvision" in last:
        found = ", ".join(f"{name} {_version(name)}" for name in ("torch", "torchvision"))
        mend = "pip install --force-reinstall torch torchvision (both from one index)"
        return Check("torch and timm", "broken", f"torch and torchvision builds differ ({found})", mend)
    return Check("torch and timm", "broken", last, "pip install --force-reinstall torch torchvision timm")


def _onnxruntime_once() -> Check:
    installed = [name for name in ONNXRUNTIMES if _version(name) != "missing"]
    if len(installed) == 1:
        return Check("onnxruntime package", "ok", f"{installed[0]} {_version(installed[0])}")
    if not installed:
        return Check("onnxruntime package", "broken", "not installed", "pip install edgezoo again")
    mend = "pip uninstall -y onnxruntime onnxruntime-gpu, then pip install edgezoo again"
    return Check("onnxruntime package", "broken", f"{' and '.join(installed)} share one folder", mend)


def _onnxruntime() -> Check:
    done = _python("import onnxruntime as o; print(o.__version__); print(', '.join(o.get_available_providers()))")
    if done.returncode == 0:
        version, providers = done.stdout.strip().splitlines()[-2:]
        return Check("onnxruntime", "ok", f"{version}: {providers}")
    return Check("onnxruntime", "broken", done.stderr.strip().splitlines()[-1], "pip install --force-reinstall it")


def _processor() -> list[Check]:
    done = _python("from zoo.runtime.processor import kind, saturates; print(saturates()); print(kind())")
    if done.returncode != 0:  # `_onnxruntime` has told why
        return []
    saturating, kind = done.stdout.strip().splitlines()[-2:]
    mend = "export older int8 files again: new ones are exact at full speed" if saturating == "True" else ""
    return [Check("processor", "ok", kind, mend)]


def _home() -> Check:
    home = zoo_home()
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as exc:
        return Check("ZOO_HOME", "broken", f"{home}: {exc.strerror}", "set ZOO_HOME to a folder that can be written")
    return Check("ZOO_HOME", "ok", str(home))


def _plugin(condition: Condition) -> Check:
    name = f"{condition.kind} {condition.name}".strip() or "plugins"
    owner = f"{condition.distribution} {condition.version}"
    if condition.state == "broken":
        mend = f"pip install --force-reinstall {condition.distribution}, or uninstall it"
        return Check(name, "broken", f"{owner}: {condition.reason}", mend)
    state = "note" if condition.reason else "ok"
    return Check(name, state, f"{owner}: {condition.reason}" if condition.reason else owner)


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _python(code: str) -> subprocess.CompletedProcess[str]:
    # What a bad distribution breaks is told of that distribution, not of torch.
    spared = "from zoo.catalogue.isolation.malformed import spare_libraries; spare_libraries()"
    command = [sys.executable, "-W", "ignore", "-c", f"{spared}\n{code}"]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=IMPORT_SECONDS, check=False, env=dict(os.environ)
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"no answer within {IMPORT_SECONDS} s")
