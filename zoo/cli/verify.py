"""`zoo verify`: nothing has changed, the golden vectors come out again, and so does every number of the report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.options import Json, Runs


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
    from zoo.deploy.bundle.verify import is_bundle

    if artifact and is_bundle(artifact):
        _verify_bundle(Path(artifact), key, json=json)
        return
    if key:
        raise typer.BadParameter("only bundles are signed; name one", param_hint="--key")
    _verify_artifact(ctx, artifact, golden=golden, runs=runs, json=json)


def _verify_bundle(path: Path, key: Path | None, *, json: bool) -> None:
    from zoo.cli.output import print_json, stdout
    from zoo.deploy.bundle.verify import verify_bundle
    from zoo.errors import ProofFailed
    from zoo.runtime.processor import kind, saturates

    found = verify_bundle(path, key)
    if json:
        print_json({**found.to_json(), "processor": kind(), "saturates": saturates()})
    else:
        stdout().print(f"checksums: {found.files} files unchanged")
        said = "by this key" if found.signature_checked else "not looked at: give --key"
        stdout().print(f"signature: {said if found.signed else 'none'}")
        stdout().print(f"{found.golden}\nprocessor: {kind()}", soft_wrap=True)
    if not found.golden.ok:
        raise ProofFailed(f"{path}: {found.golden}")


def _verify_artifact(ctx: typer.Context, artifact: str | None, *, golden: bool, runs: Path | None, json: bool) -> None:
    from zoo.cli.export import print_proof
    from zoo.cli.output import print_json, stdout
    from zoo.contracts.progress import note
    from zoo.disk.home import runs_root
    from zoo.errors import ProofFailed
    from zoo.exporting.reproof import verify_artifact
    from zoo.records.find import find_artifact
    from zoo.runtime.processor import kind, saturates

    found = find_artifact(artifact, runs_root(runs), note)
    result = verify_artifact(ctx.obj.catalogue(), found, golden_only=golden, note=note)
    if json:
        told = {"artifact": str(found.path), **result.to_json(), "processor": kind(), "saturates": saturates()}
        print_json(told)
    else:
        if result.report:
            print_proof(found, found.manifest(), result.report)
        stdout().print(f"processor: {kind()}", soft_wrap=True)
        stdout().print(f"checksums: {len(found.manifest().files)} files unchanged")
        stdout().print(
            f"golden vectors: largest difference {result.golden_difference:.2g}, limit {result.golden_limit:g}"
        )
        if result.report and not result.problems:
            stdout().print("every stored number came out again")
    if result.problems:
        raise ProofFailed(f"{found.path}: {'; '.join(result.problems)}")
