"""Artifact + target -> one .tar.gz: everything that a device needs, and nothing that the proof has not seen."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zoo.runtime
from zoo.deploy.bundle import browser
from zoo.deploy.bundle.archive import write_archive
from zoo.deploy.bundle.limits import why_not
from zoo.deploy.bundle.minimal import minimal_files
from zoo.deploy.bundle.papers import papers, versions_of_proof
from zoo.deploy.bundle.sbom import SBOM, sbom
from zoo.deploy.bundle.sign import SIGNATURE, signature
from zoo.disk.files import sha256
from zoo.errors import ArtifactInvalid, ProofFailed
from zoo.evaluation.page import folded, fragment, table
from zoo.records.artifact import PAGE
from zoo.runtime.manifest import MANIFEST, RUNTIME
from zoo.runtime.sums import SUMS, sums_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo.contracts.target import Target
    from zoo.records.artifact import Artifact
    from zoo.records.manifest import Manifest

MOST_LETTERS = 40
"""Of a run's name in that of its bundle: a tar header has room for 100 in a path."""


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """What was written."""

    path: Path
    folder: str
    """In which the archive has its files."""
    target: str
    size_bytes: int
    sha256: str
    signed: bool
    files: dict[str, int]
    """Path in the archive -> its bytes, unpacked."""

    def _repr_html_(self) -> str:
        about = f"{self.size_bytes / 1e6:.2f} MB for {self.target}{', signed' if self.signed else ''}"
        rows = [(name, f"{size / 1e3:.1f} kB") for name, size in self.files.items()]
        head = f'<p>{escape(str(self.path))}</p><p class="faint">{escape(about)}, sha256 {self.sha256[:16]}</p>'
        return fragment([head, folded(f"{len(rows)} files", table(("", ""), rows))])

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "path": str(self.path)}


@dataclass(frozen=True, kw_only=True)
class BundleSpec:
    """What is asked of a bundle."""

    out: Path | None = None
    """The archive [default: in the run's folder `bundle`, named after run, artifact and target]."""
    key: Path | None = None
    """A private key to sign it with."""
    ort: bool = False
    """Whether the files for a minimal build of onnxruntime are in it as well."""
    web_runtime: Path | None = None
    """The package of onnxruntime-web for a target in a browser [default: zoo's cache, else npm]."""


def bundle_artifact(
    artifact: Artifact,
    target: Target,
    spec: BundleSpec = BundleSpec(),
    note: Callable[[str], None] = lambda text: None,
) -> Bundle:
    """Write an artifact's bundle for a target.

    Args:
        artifact: An accepted one.
        target: The device; what it cannot take is refused.
        spec: What is asked of the bundle.
        note: Gets a line about what is done.

    Raises:
        ArtifactInvalid: it was refused, or has changed since its proof.
        ProofFailed: it breaks a limit of the target.
        OptionInvalid, EnvironmentBroken: no such key; no onnxruntime-web; no `.ort`; the archive cannot be written.
    """
    manifest = artifact.manifest()
    artifact.check_files(manifest)
    if artifact.rejected or not manifest.report.accepted:
        raise ArtifactInvalid(f"{artifact.path} was refused by its proof; a bundle is made of an accepted artifact")
    note(f"looking whether {target.name} can take {artifact.path.name}")
    if reasons := why_not(artifact, manifest, target):
        raise ProofFailed(f"{target.name} cannot take {artifact.path}: {'; '.join(reasons)}")
    if manifest.target != target.name:
        note(f"it was exported for {manifest.target}: `zoo export --target {target.name}` knows what is fast there")
    name = bundle_name(artifact, manifest, target)
    extra = browser.page(manifest, spec.web_runtime, note) if browser.has_page(target) else {}
    if spec.ort:
        note("writing the file for a minimal onnxruntime, and asking it the golden images")
        extra |= minimal_files(artifact, manifest)
    files = contents(artifact, manifest, target, name, spec.key, extra)
    final = spec.out or artifact.path.resolve().parent.parent / "bundle" / f"{name}.tar.gz"
    write_archive(final, name, files)
    return Bundle(
        path=final,
        folder=name,
        target=target.name,
        size_bytes=final.stat().st_size,
        sha256=sha256(final),
        signed=spec.key is not None,
        files={path: len(content) for path, content in sorted(files.items())},
    )


def bundle_name(artifact: Artifact, manifest: Manifest, target: Target) -> str:
    """Return what the archive and the folder in it are called."""
    run = re.sub(r"[^A-Za-z0-9_.+-]", "-", str(manifest.lineage.get("run", "model"))).lstrip(".-")[:MOST_LETTERS]
    return "-".join((run or "model", artifact.path.name, target.name))


def contents(
    artifact: Artifact, manifest: Manifest, target: Target, name: str, key: Path | None, extra: dict[str, bytes]
) -> dict[str, bytes]:
    """Return the files of a bundle, the checksums of all others among them; `extra` is what not every one has."""
    own = (MANIFEST, *(file for file in manifest.files if file != PAGE))
    files = {file: (artifact.path / file).read_bytes() for file in own}
    files |= runtime_files() | extra
    names = sorted([*files, "README.md", "LICENSE", "LICENSES.md", "requirements.txt", "labels.txt", SBOM, SUMS])
    files |= papers(manifest, target, name, [n for n in names if not n.startswith(RUNTIME)], signed=key is not None)
    packages = {**versions_of_proof(manifest), **({browser.RUNTIME: browser.VERSION} if browser.PAGE in extra else {})}
    files[SBOM] = sbom(manifest, name, packages, digests(files)).encode()
    if key:
        files[SIGNATURE] = signature(files, key)
    files[SUMS] = sums_text(digests(files)).encode()
    return files


def runtime_files() -> dict[str, bytes]:
    """Return the device's runtime as plain files."""
    folder = Path(zoo.runtime.__file__).parent
    return {f"{RUNTIME}/{file.name}": file.read_bytes() for file in sorted(folder.glob("*.py"))}


def digests(files: dict[str, bytes]) -> dict[str, str]:
    """Return path -> SHA-256."""
    return {path: hashlib.sha256(content).hexdigest() for path, content in sorted(files.items())}
