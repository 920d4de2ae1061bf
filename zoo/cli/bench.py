"""`zoo bench`: latency of artifacts, side by side in one run."""

from __future__ import annotations

from typing import Annotated

import typer

from zoo.cli.options import Json, Runs


def bench_cli(
    ctx: typer.Context,
    artifacts: Annotated[list[str] | None, typer.Argument(help="Artifacts, or a run [default: the newest].")] = None,
    threads: Annotated[int, typer.Option(min=0, help="Of each runtime; 0 leaves it to them.")] = 1,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long to measure.")] = 5.0,
    runs: Runs = None,
    json: Json = False,
) -> None:
    """Time artifacts on their own golden images, one image at a time, each in turn."""
    from zoo.bench import bench_artifacts
    from zoo.cli.output import megabytes, note, print_json, print_table
    from zoo.find import find_all_artifacts
    from zoo.home import runs_root

    found = find_all_artifacts(artifacts or [], runs_root(runs), note)
    results = bench_artifacts(ctx.obj.catalogue(), found, threads=threads, seconds=seconds)
    if json:
        print_json({"threads": threads, "artifacts": [result.to_json() for result in results]})
        return
    rows = [
        (r.name, megabytes(r.size_bytes), f"{r.p50_ms:.3f}", f"{r.p95_ms:.3f}", f"{r.speedup:.2f}x") for r in results
    ]
    print_table(
        ["artifact", "size", "p50 ms", "p95 ms", f"speed over {results[0].name}"], rows, title=f"{threads} thread(s)"
    )
