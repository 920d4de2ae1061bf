"""What must hold before a release: `make release-check`, or `python docs/release_check.py [--tag v0.1.0] [--out dist]`.

Wheel and sdist are built into a temporary folder. The wheel goes into a fresh venv beside them, with the newest
releases of all that it asks for rather than those of requirements.lock, and trains, exports and verifies there.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OURS = ("PYTHONPATH", "ZOO_HOME", "ZOO_REGISTRY", "ZOO_RUNS")
"""Settings that would lead back to this checkout, or to what its user has."""
TOUR = (
    ("train", "tiny", "--dataset", "digits", "--epochs", "1", "--name", "first"),
    ("export", "first", "--onnx"),
    ("verify", "first/onnx-fp32"),
)


def main() -> None:
    """Run every step; the first that fails ends it, with that command's own words and its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tag", help="of the release: version and changelog must agree with it")
    parser.add_argument("--out", type=Path, help="a folder for the two files, once they have passed")
    given = parser.parse_args()
    begin, version = time.perf_counter(), read_version()
    check_papers(version, given.tag)
    with tempfile.TemporaryDirectory(prefix="edgezoo-release-") as scratch:
        files = build(Path(scratch, "dist"))
        use(install(files[0], Path(scratch, "venv")), version, Path(scratch, "empty"))
        if given.out:
            given.out.mkdir(parents=True, exist_ok=True)
            for file in files:
                shutil.copy(file, given.out)
        sizes = ", ".join(f"{file.name} ({file.stat().st_size / 1e6:.2f} MB)" for file in files)
    print(f"release check passed in {time.perf_counter() - begin:.0f} s: {sizes}")


def read_version() -> str:
    """Return the version in `zoo/__init__.py`, without importing it."""
    return found(r'^__version__ = "(.+)"$', ROOT / "zoo/__init__.py")


def check_papers(version: str, tag: str | None) -> None:
    """Hold CITATION.cff against the version; for a release also its tag, and its section of the changelog."""
    if (cited := found(r"^version: (\S+)$", ROOT / "CITATION.cff")) != version:
        sys.exit(f"release check: CITATION.cff says {cited}, zoo/__init__.py {version}; make them agree")
    if tag is None:
        return
    if tag != f"v{version}":
        sys.exit(f"release check: the tag is {tag}, zoo/__init__.py says {version}; tag v{version}")
    found(rf"^## \[({re.escape(version)})\] - \d{{4}}-\d\d-\d\d$", ROOT / "CHANGELOG.md")


def found(pattern: str, file: Path) -> str:
    """Return what a pattern catches in a file."""
    match = re.search(pattern, file.read_text(encoding="utf-8"), re.MULTILINE)
    if match is None:
        sys.exit(f"release check: no line of {file.name} is like {pattern}; add it")
    return match[1]


def build(folder: Path) -> tuple[Path, Path]:
    """Build the sdist, and from it the wheel; check what the package index would refuse. Return wheel and sdist."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist)
    return wheel, sdist


def install(wheel: Path, venv: Path) -> Path:
    """Install a wheel, and all that it asks for, into a fresh venv; return the folder of its programs."""
    run(sys.executable, "-m", "uv", "venv", "--quiet", "--python", sys.executable, venv)
    run(sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", venv / "bin/python", wheel)
    return venv / "bin"


def use(programs: Path, version: str, folder: Path) -> None:
    """Ask the installed program for its version and where it lies, then train, export and verify in an empty folder."""
    folder.mkdir()
    env = {name: value for name, value in os.environ.items() if name not in OURS}
    env["ZOO_HOME"] = str(folder / "home")
    where = run(programs / "python", "-c", "import zoo; print(zoo.__file__)", cwd=folder, env=env)
    if not Path(where).resolve().is_relative_to(programs.parent.resolve()):
        sys.exit(f"release check: the venv imports {where}, which is not its own")
    if (said := run(programs / "zoo", "--version", cwd=folder, env=env)) != f"zoo {version}":
        sys.exit(f"release check: `zoo --version` says {said!r}, zoo/__init__.py {version}")
    for command in TOUR:
        run(programs / "zoo", *command, cwd=folder, env=env)


def run(*command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Run a command and show it and its output; return its output."""
    program, *rest = map(str, command)
    print("$", Path(program).name, *rest, flush=True)
    done = subprocess.run(
        [program, *rest], cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    print(done.stdout, end="", flush=True)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout.strip()


if __name__ == "__main__":
    main()
