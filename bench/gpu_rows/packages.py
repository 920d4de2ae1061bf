"""What rows import, what that weighs as wheels, and how zoo is found where it is not installed."""

from __future__ import annotations

import importlib.metadata
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from bench.gpu_rows.table import Row

LIMIT = 64.0
"""Megabytes that what is taken along may have, together."""
EXPECTED, TAKEN, MORE, LEFT_OUT = "there", "taken along", "for whole runs", "left out"


@dataclass(frozen=True, kw_only=True)
class Package:
    """A distribution, and where it is to come from on a machine with PyTorch and nothing else."""

    distribution: str
    modules: tuple[str, ...]
    """Top-level modules of it that rows need."""
    place: str
    """there: with PyTorch; taken along; for whole runs: too large together for that; left out: too large by itself."""
    megabytes: float = 0.0
    """Of its wheel for CPython 3.12 on x86-64 Linux, in units of 1e6 bytes, and of what only it needs."""
    brings: tuple[str, ...] = ()
    """The distributions among these that it needs itself."""


def _package(
    distribution: str, module: str, place: str, megabytes: float = 0.0, brings: tuple[str, ...] = ()
) -> Package:
    return Package(distribution=distribution, modules=(module,), place=place, megabytes=megabytes, brings=brings)


PACKAGES = (
    _package("torch", "torch", EXPECTED),
    _package("torchvision", "torchvision", EXPECTED),
    _package("numpy", "numpy", EXPECTED),
    _package("pillow", "PIL", EXPECTED),
    _package("filelock", "filelock", EXPECTED),
    _package("jinja2", "jinja2", EXPECTED),
    _package("timm", "timm", TAKEN, 2.8),
    _package("pyyaml", "yaml", TAKEN, 0.8),
    _package("safetensors", "safetensors", MORE, 0.5),
    _package("pydantic", "pydantic", TAKEN, 2.8, ("pydantic-core", "annotated-types", "typing-inspection")),
    _package("platformdirs", "platformdirs", MORE, 0.1),
    _package("docstring-parser", "docstring_parser", MORE, 0.1),
    _package("rich", "rich", MORE, 1.7, ("markdown-it-py", "mdurl", "pygments")),
    _package("typer", "typer", MORE, 0.2, ("annotated-doc", "shellingham")),
    _package("threadpoolctl", "threadpoolctl", TAKEN, 0.1),
    _package("simplejpeg", "simplejpeg", TAKEN, 0.4),
    _package("albumentations", "albumentations", MORE, 5.2, ("albucore", "stringzilla", "simsimd")),
    _package("scikit-learn", "sklearn", MORE, 9.5, ("joblib",)),
    _package("torchcodec", "torchcodec", TAKEN, 10.0),
    _package("onnx", "onnx", TAKEN, 9.7, ("ml-dtypes", "protobuf")),
    _package("onnxscript", "onnxscript", MORE, 1.0, ("onnx-ir",)),
    _package("scipy", "scipy", MORE, 35.4),
    _package("opencv-python-headless", "cv2", MORE, 61.3),
    _package("onnxruntime-gpu", "onnxruntime", LEFT_OUT),
    Package(
        distribution="the extra `serve`",
        modules=("fastapi", "uvicorn", "httptools", "prometheus_client"),
        place=LEFT_OUT,
    ),
)
BY_MODULE = {module: package for package in PACKAGES for module in package.modules}


def megabytes(place: str = TAKEN) -> float:
    """Return what the packages of a place weigh together."""
    return sum(package.megabytes for package in PACKAGES if package.place == place)


def imports_table(rows: Iterable[Row]) -> str:
    """Return the table of docs/gpu.md: each package, its weight, and the rows that need it."""
    rows = list(rows)
    lines = ["| package | MB | | rows that need it |", "| --- | --- | --- | --- |"]
    for package in PACKAGES:
        name = package.distribution + (f" ({', '.join(package.brings)})" if package.brings else "")
        weight = f"{package.megabytes:.1f}" if package.megabytes else ""
        lines.append(f"| {name} | {weight} | {package.place} | {_needing(package, rows)} |")
    absent = {module for package in PACKAGES if package.place in (MORE, LEFT_OUT) for module in package.modules}
    able = [row.name for row in rows if not absent & set(row.needs)]
    lines += [
        "",
        f"Taken along: {megabytes():.0f} MB in all. That answers {', '.join(able)}. The other rows say what "
        f"they need; what is for whole runs has {megabytes(MORE):.0f} MB more.",
    ]
    return "\n".join(lines)


def _needing(package: Package, rows: list[Row]) -> str:
    needing = [row.name for row in rows if set(package.modules) & set(row.needs)]
    others = [row.name for row in rows if row.name not in needing]
    if not others:
        return "all"
    return f"all but {', '.join(others)}" if len(others) < 4 else ", ".join(needing)


def pip_arguments(place: str = TAKEN) -> str:
    """Return the names that `pip download --no-deps` takes."""
    names = [name for package in PACKAGES if package.place == place for name in (package.distribution, *package.brings)]
    # Its successor has another licence.
    return " ".join("albumentations==2.0.8" if name == "albumentations" else name for name in names)


def made_known(root: Path, folder: Path) -> Path | None:
    """Write what a package index would have installed of this tree: its name and its entry points.

    Returns:
        The folder to import from; None where zoo is installed.
    """
    try:
        importlib.metadata.distribution("edgezoo")
    except importlib.metadata.PackageNotFoundError:
        pass
    else:
        return None
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    place = folder / "known" / "edgezoo-0.dist-info"
    place.mkdir(parents=True, exist_ok=True)
    (place / "METADATA").write_text("Metadata-Version: 2.1\nName: edgezoo\nVersion: 0\n", encoding="utf-8")
    lines: list[str] = []
    for group, names in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in names.items())]
    (place / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return place.parent
