"""`zoo bench`: latency of artifacts, side by side in one run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo.cli.options import Json, Runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zoo.exporting.bench import BenchResult


def bench_cli(
    ctx: typer.Context,
    artifacts: Annotated[list[str] | None, typer.Argument(help="Artifacts, or a run [default: the newest].")] = None,
    threads: Annotated[int, typer.Option(min=0, help="Of each runtime; 0 leaves it to them.")] = 1,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long to measure.")] = 5.0,
    provider: Annotated[
        list[str] | None,
        typer.Option(help="Where ONNX files run: cpu, cuda, tensorrt, cuda:1; repeat to compare. [default: cpu]"),
    ] = None,
    figures: Annotated[
        list[Path] | None, typer.Option(help="A device's artifact.json, after `zoo_runtime bench`; is kept.")
    ] = None,
    runs: Runs = None,
    json: Json = False,
) -> None:
    """Time artifacts on their own golden images, one image at a time, each in turn.

    Below stands what devices found, once their `artifact.json` was brought back (`--figures FILE`).
    """
    from zoo.cli.output import megabytes, print_json, print_table
    from zoo.contracts.progress import note
    from zoo.disk.home import runs_root
    from zoo.exporting.bench import bench_artifacts, check_providers
    from zoo.exporting.measured import bring_back
    from zoo.records.find import find_all_artifacts

    providers = tuple(provider or ["cpu"])
    check_providers(providers)
    found = find_all_artifacts(artifacts or [], runs_root(runs), note)
    for file in figures or []:
        artifact, count = bring_back(file, found)
        note(f"{artifact.path}: {count} new from {file}")
    results = bench_artifacts(ctx.obj.catalogue(), found, threads=threads, seconds=seconds, providers=providers)
    if json:
        print_json({"threads": threads, "artifacts": [result.to_json() for result in results]})
        return
    rows = [
        (r.name, r.provider, megabytes(r.size_bytes), f"{r.p50_ms:.3f}", f"{r.p95_ms:.3f}", f"{r.speedup:.2f}x")
        for r in results
    ]
    columns = ["artifact", "on", "size", "p50 ms", "p95 ms", "speed over the first"]
    print_table(columns, rows, title=f"{threads} thread(s)")
    print_devices(results)


def print_devices(results: Sequence[BenchResult]) -> None:
    """Print what devices found, if any was brought back."""
    from zoo.cli.output import print_table

    rows = [
        (
            result.name,
            told.machine.get("processor", "unknown"),
            told.threads or "all",
            f"{told.p50:.3f}",
            f"{told.p95:.3f}",
            f"{told.images_per_second:.1f}",
            f"{told.cold_start:.0f}",
            f"{told.peak_memory_mb:.0f}" if told.peak_memory_mb else "",
            ("passed" if told.selftest["ok"] else "FAILED") if "ok" in told.selftest else "",
            told.date[:10],
        )
        for result in results
        for told in result.devices
    ]
    if rows:
        figures = ("p50 ms", "p95 ms", "images/s", "start ms", "MB")
        columns = ["artifact", "device", "threads", *figures, "selftest", "date"]
        print_table(columns, rows, title="on devices")
