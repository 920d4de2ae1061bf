"""`zoo verify`: nothing has changed, the golden vectors come out again, and so does every number of the report."""

from __future__ import annotations

from typing import Annotated

import typer

from zoo.cli.options import Json, Runs


def verify_cli(
    ctx: typer.Context,
    artifact: Annotated[str | None, typer.Argument(help="An artifact or its run [default: the newest].")] = None,
    golden: Annotated[bool, typer.Option("--golden", help="Only checksums and golden vectors, no dataset.")] = False,
    runs: Runs = None,
    json: Json = False,
) -> None:
    """Prove an artifact again."""
    from zoo.cli.export import print_proof
    from zoo.cli.output import note, print_json, stdout
    from zoo.errors import ProofFailed
    from zoo.find import find_artifact
    from zoo.home import runs_root
    from zoo.reproof import verify_artifact

    found = find_artifact(artifact, runs_root(runs), note)
    result = verify_artifact(ctx.obj.catalogue(), found, golden_only=golden, note=note)
    if json:
        print_json({"artifact": str(found.path), **result.to_json()})
    else:
        if result.report:
            print_proof(found, found.manifest(), result.report)
        stdout().print(f"checksums: {len(found.manifest().files)} files unchanged")
        stdout().print(
            f"golden vectors: largest difference {result.golden_difference:.2g}, limit {result.golden_limit:g}"
        )
        if result.report and not result.problems:
            stdout().print("every stored number came out again")
    if result.problems:
        raise ProofFailed(f"{found.path}: {'; '.join(result.problems)}")
