"""`zoo verify`: nothing has changed, the golden vectors come out again, and so does every number of the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo.cli.options import Json, Runs

if TYPE_CHECKING:
    from zoo.deploy.bundle.verify import BundleProof
    from zoo.exporting.reproof import Reproof


def verify_cli(
    ctx: typer.Context,
    artifact: Annotated[
        str | None, typer.Argument(help="An artifact, its run, or a bundle [default: the newest artifact].")
    ] = None,
    golden: Annotated[bool, typer.Option("--golden", help="Only checksums and golden vectors, no dataset.")] = False,
    key: Annotated[Path | None, typer.Option(help="Of a bundle: who must have signed it, a public key in PEM.")] = None,
    runs: Runs = None,
    json: Json = False,
) -> None:
    """Prove an artifact, or a bundle, again."""
    from zoo.deploy.door import bundle_path, verify
    from zoo.errors import ProofFailed

    if key and not bundle_path(artifact):
        raise typer.BadParameter("only bundles are signed; name one", param_hint="--key")
    try:
        proof = verify(artifact, golden=golden, key=key, runs=runs, catalogue=ctx.obj.catalogue())
    except ProofFailed as exc:
        if exc.report:
            _print(exc.report, json=json)
        raise
    _print(proof, json=json)


def _print(proof: Reproof | BundleProof, *, json: bool) -> None:
    from zoo.cli.output import print_json, stdout
    from zoo.exporting.reproof import Reproof
    from zoo.runtime.processor import kind, saturates

    if json:
        print_json({**proof.to_json(), "processor": kind(), "saturates": saturates()})
        return
    if isinstance(proof, Reproof):
        _print_artifact(proof)
        return
    stdout().print(f"checksums: {proof.files} files unchanged")
    said = "by this key" if proof.signature_checked else "not looked at: give --key"
    stdout().print(f"signature: {said if proof.signed else 'none'}")
    stdout().print(f"{proof.golden}\nprocessor: {kind()}", soft_wrap=True)


def _print_artifact(proof: Reproof) -> None:
    from zoo.cli.export import print_proof
    from zoo.cli.output import stdout
    from zoo.runtime.processor import kind

    manifest = proof.artifact.manifest()
    if proof.report:
        print_proof(proof.artifact, manifest, proof.report)
    stdout().print(f"processor: {kind()}", soft_wrap=True)
    if proof.saturates is not None:
        alike = "no: others than zoo's runtime must be told" if proof.saturates else "yes"
        stdout().print(f"answers alike on x86 with and without VNNI: {alike}", soft_wrap=True)
    stdout().print(f"checksums: {len(manifest.files)} files unchanged")
    stdout().print(f"golden vectors: largest difference {proof.golden_difference:.2g}, limit {proof.golden_limit:g}")
    if proof.report and not proof.problems:
        stdout().print("every stored number came out again")
