"""The page of a bundle for browsers: plain files beside the model, and onnxruntime-web as npm has it."""

from __future__ import annotations

import base64
import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.disk.files import write_atomic
from zoo.disk.home import zoo_home
from zoo.errors import EnvironmentBroken, OptionInvalid

if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo.contracts.target import Target
    from zoo.records.manifest import Manifest

RUNTIME = "onnxruntime-web"
"""`runtime` of the targets that get a page, and the package's name on npm."""
VERSION = "1.30.0"
INTEGRITY = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""SHA-512 of the package, in base64 as npm writes it."""
PAGE = "index.html"
FOLDER = "ort"
"""In which the page looks for it."""
WASM = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
WEBGPU = ("ort.jspi.min.mjs", "ort-wasm-simd-threaded.jspi.mjs", "ort-wasm-simd-threaded.jspi.wasm")
"""The smallest of three builds with WebGPU: 17 MB, the others have 27 and 28."""
ON_GPU = ("fp32", "fp16")
"""Precisions that WebGPU has kernels for; it would hand int8 back to the processor, operator by operator."""
SUFFIXES = (".html", ".css", ".js", ".mjs", ".svg", ".py")
SECONDS = 600


def has_page(target: Target) -> bool:
    """Tell whether a target's bundle gets a page."""
    return target.runtime == RUNTIME


def page(manifest: Manifest, given: Path | None, note: Callable[[str], None]) -> dict[str, bytes]:
    """Return the files of the page: its own, and those of onnxruntime-web that the model can run on.

    Args:
        manifest: Of the artifact.
        given: The package's .tgz, where the user has one.
        note: Gets a line about what is fetched.

    Raises:
        EnvironmentBroken: the package is not here and npm does not fetch it.
        OptionInvalid: `given` is another file.
    """
    own = sorted(Path(__file__).with_name("web").iterdir())
    files = {file.name: file.read_bytes() for file in own if file.suffix in SUFFIXES}
    names = WASM + (WEBGPU if manifest.precision in ON_GPU else ())
    return files | {f"{FOLDER}/{name}": content for name, content in _members(_package(given, note), names).items()}


def _package(given: Path | None, note: Callable[[str], None]) -> bytes:
    """Return the package: the user's file, else the one in zoo's cache, else what npm fetches."""
    if given:
        content = _read(given)
        if content is None or not _is_it(content):
            wrong = "cannot be read" if content is None else f"is not {RUNTIME} {VERSION} as npm has it"
            raise OptionInvalid(f"{given} {wrong}; get it with `npm pack {RUNTIME}@{VERSION}`")
        return content
    kept = zoo_home() / RUNTIME / f"{RUNTIME}-{VERSION}.tgz"
    content = _read(kept)
    if content is None or not _is_it(content):
        note(f"fetching {RUNTIME} {VERSION} with npm")
        content = _fetched()
        write_atomic(kept, lambda file: file.write(content))
    return content


def _fetched() -> bytes:
    """Let the user's npm fetch the package, so that his settings count.

    Raises:
        EnvironmentBroken: there is no npm, it fails, or it brings something else.
    """
    instead = f"fetch it elsewhere with `npm pack {RUNTIME}@{VERSION}` and name the file with --web-runtime"
    npm = shutil.which("npm")
    if npm is None:
        raise EnvironmentBroken(f"the page needs {RUNTIME} {VERSION}, and npm is not installed; {instead}")
    command = [npm, "pack", f"{RUNTIME}@{VERSION}", "--silent", "--ignore-scripts", "--pack-destination"]
    with tempfile.TemporaryDirectory(prefix="zoo-npm-") as scratch:
        try:
            done = subprocess.run(
                [*command, scratch], cwd=scratch, capture_output=True, text=True, timeout=SECONDS, check=False
            )
            said = [line for line in done.stderr.splitlines() if "error" in line.lower()]
        except (OSError, subprocess.TimeoutExpired) as exc:
            said = [str(exc)]
        found = list(Path(scratch).glob("*.tgz"))
        if not found:
            raise EnvironmentBroken(
                f"npm does not fetch {RUNTIME} {VERSION} ({said[0] if said else 'no reason given'}); {instead}"
            )
        content = found[0].read_bytes()
    if not _is_it(content):
        raise EnvironmentBroken(f"npm fetched a {RUNTIME} {VERSION} with another checksum; {instead}")
    return content


def _read(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:
        return None


def _is_it(content: bytes) -> bool:
    return base64.b64encode(hashlib.sha512(content).digest()).decode() == INTEGRITY


def _members(package: bytes, names: tuple[str, ...]) -> dict[str, bytes]:
    """Return some files of a package whose checksum is right."""
    with tarfile.open(fileobj=io.BytesIO(package), mode="r:gz") as archive:
        opened = {name: archive.extractfile(f"package/dist/{name}") for name in names}
        return {name: file.read() for name, file in opened.items() if file}
