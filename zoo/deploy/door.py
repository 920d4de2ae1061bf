"""`zoo.bundle` and `zoo.verify`: words are checked first, and what is heavy is imported behind that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zoo.catalogue import opened
from zoo.contracts.progress import noting
from zoo.contracts.words import checked
from zoo.disk.home import runs_root
from zoo.errors import OptionInvalid, ProofFailed
from zoo.records.artifact import Artifact
from zoo.records.find import find_artifact
from zoo.runtime.sums import SUMS

if TYPE_CHECKING:
    from zoo.catalogue import Catalogue
    from zoo.contracts.progress import Progress
    from zoo.deploy.bundle.make import Bundle
    from zoo.deploy.bundle.verify import BundleProof
    from zoo.exporting.reproof import Reproof


@checked
def bundle(
    artifact: Artifact | str | Path | None = None,
    target: str | None = None,
    out: str | Path | None = None,
    *,
    sign: str | Path | None = None,
    ort: bool = False,
    web_runtime: str | Path | None = None,
    runs: str | Path | None = None,
    progress: Progress = True,
    catalogue: Catalogue | str | Path | None = None,
) -> Bundle:
    """Put an accepted artifact and the runtime without PyTorch into one archive that runs on a device.

    Args:
        artifact: An artifact, its name or its path, or its run's name [default: the newest].
        target: A name of `zoo.targets()` [default: the one it was exported for].
        out: The archive [default: in the run's folder `bundle`].
        sign: An Ed25519 private key in PEM.
        ort: Also as .ort, with the operators that a minimal onnxruntime needs.
        web_runtime: For browsers: the .tgz of onnxruntime-web [default: npm fetches it].
        runs: The folder of all runs [default: $ZOO_RUNS, else ./runs].
        progress: True tells on stderr what is done; a function gets each line; False tells nothing.
        catalogue: A registry.toml to lay over the built-in one.

    Raises:
        UnknownName: no such target.
        ArtifactInvalid: there is none, it was refused, or it has changed since its proof.
        ProofFailed: it breaks a limit of the target.
        OptionInvalid, EnvironmentBroken: no such key; no onnxruntime-web; the archive cannot be written.
    """
    names, note = opened(catalogue), noting(progress)
    if target:
        names.target(target)
    if out is not None and not str(out).endswith((".tar.gz", ".tgz")):
        raise OptionInvalid(f"{out} would be an archive; give it a name that ends in .tar.gz")
    found = _artifact(artifact, runs, progress)
    from zoo.deploy.bundle.make import BundleSpec, bundle_artifact

    spec = BundleSpec(out=_path(out), key=_path(sign), ort=ort, web_runtime=_path(web_runtime))
    return bundle_artifact(found, names.target(target or found.manifest().target), spec, note)


@checked
def verify(
    artifact: Artifact | Bundle | str | Path | None = None,
    *,
    golden: bool = False,
    key: str | Path | None = None,
    runs: str | Path | None = None,
    progress: Progress = True,
    catalogue: Catalogue | str | Path | None = None,
) -> Reproof | BundleProof:
    """Prove an artifact, or a bundle, again: every checksum, the golden answers, and every number of the report.

    Args:
        artifact: An artifact, its name or its path, its run's name, or a bundle [default: the newest artifact].
        golden: Only checksums and golden answers; no dataset is needed.
        key: Of a bundle: who must have signed it, a public key in PEM.
        runs: The folder of all runs [default: $ZOO_RUNS, else ./runs].
        progress: True tells on stderr what is done; a function gets each line; False tells nothing.
        catalogue: A registry.toml to lay over the built-in one.

    Raises:
        ProofFailed: something came out otherwise; `report` is what did.
        ArtifactInvalid: a file is missing or has changed.
        OptionInvalid: a key for what cannot be signed.
    """
    place = bundle_path(artifact)
    if place:
        from zoo.deploy.bundle.verify import verify_bundle

        proof = verify_bundle(place, _path(key))
        _refuse(proof, "" if proof.golden.ok else str(proof.golden), place)
        return proof
    if key:
        raise OptionInvalid("only bundles are signed; name one, or leave the key out")
    found = _artifact(artifact, runs, progress)
    from zoo.exporting.reproof import verify_artifact

    again = verify_artifact(opened(catalogue), found, golden_only=golden, note=noting(progress))
    _refuse(again, "; ".join(again.problems), found.path)
    return again


def bundle_path(given: object) -> Path | None:
    """Return the archive, or the folder that one was unpacked into, that is meant; None if something else is."""
    path = given if isinstance(given, str | Path) else getattr(given, "path", None)
    if not isinstance(path, str | Path) or isinstance(given, Artifact):
        return None
    return Path(path) if Path(path).is_file() or (Path(path) / SUMS).is_file() else None


def _refuse(proof: Reproof | BundleProof, why: str, path: Path) -> None:
    if why:
        refused = ProofFailed(f"{path}: {why}")
        refused.report = proof
        raise refused


def _artifact(given: object, runs: str | Path | None, progress: Progress) -> Artifact:
    if isinstance(given, Artifact):
        return given
    root = runs_root(runs)
    return find_artifact(None if given is None else str(getattr(given, "path", given)), root, noting(progress))


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)
