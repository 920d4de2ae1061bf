"""`zoo serve`: a model that passed its proof, behind HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from zoo.cli.options import Json, Runs

NEEDED = ("fastapi", "uvicorn", "httptools", "python_multipart", "prometheus_client")


def serve_cli(
    ctx: typer.Context,
    artifact: Annotated[
        str | None,
        typer.Argument(help="An artifact, its run, an unpacked bundle, or a link to one [default: the newest]."),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 for all of them.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for one that is free.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, help="Processes that answer, each with the model.")] = 1,
    threads: Annotated[
        int | None, typer.Option(min=0, help="Of each one's runtime, 0 for all cores [default: as in its proof].")
    ] = None,
    provider: Annotated[str, typer.Option(help="Where an ONNX file runs: cpu, cuda, tensorrt, or cuda:1.")] = "cpu",
    max_batch: Annotated[int, typer.Option(min=1, help="Images that go through the network together.")] = 16,
    max_wait_ms: Annotated[float, typer.Option(min=0, help="That an image waits at most for others.")] = 2.0,
    queue: Annotated[int, typer.Option(min=1, help="Images that a process has in hand; then it answers 503.")] = 256,
    max_mb: Annotated[float, typer.Option(min=0.001, help="MiB that a request's body may have.")] = 16.0,
    max_megapixels: Annotated[float, typer.Option(min=0.001, help="That an image may have.")] = 24.0,
    max_images: Annotated[int, typer.Option(min=1, help="That a request may have.")] = 32,
    drain: Annotated[
        float, typer.Option(min=0, help="Seconds for which connections are still taken after SIGTERM.")
    ] = 2.0,
    log: Annotated[
        Path | None, typer.Option(help="Append predictions to this .jsonl or .sqlite file, for `zoo monitor`.")
    ] = None,
    runs: Runs = None,
    json: Json = False,
) -> None:
    """Answer HTTP requests with an accepted model: POST /v1/predict; the page at / lets you try it, /docs says more.

    SIGTERM ends it when every request has its answer. A new model that is put in the artifact's place (a link that is
    moved, a folder that is renamed) is tried and answers from then on.
    """
    check_extra()
    from zoo.deploy.serve.settings import Settings
    from zoo.exporting.bench import check_providers

    check_providers([provider])
    settings = Settings(
        path=str(_path(artifact, runs)),
        registry=str(ctx.obj.registry.resolve()) if ctx.obj.registry else None,
        host=host,
        port=port,
        workers=workers,
        threads=threads,
        provider=provider,
        max_batch=max_batch,
        max_wait_ms=max_wait_ms,
        queue=queue,
        max_body_bytes=int(max_mb * 2**20),
        max_pixels=int(max_megapixels * 1e6),
        max_images=max_images,
        drain_seconds=drain,
        log=str(log.resolve()) if log else None,
    )
    _run(settings, json=json)


def check_extra() -> None:
    """Raise EnvironmentBroken unless all packages of the extra `serve` are there."""
    from importlib.util import find_spec

    from zoo.errors import EnvironmentBroken

    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        packages = " and ".join(name.replace("_", "-") for name in missing)
        raise EnvironmentBroken(f'zoo serve needs {packages}; run `pip install "edgezoo[serve]"`')


def _path(artifact: str | None, runs: Path | None) -> Path:
    """Return the folder or the link to look at, as it was named: a link may lead elsewhere tomorrow."""
    from zoo.contracts.progress import note
    from zoo.deploy.door import bundle_path
    from zoo.disk.home import runs_root
    from zoo.errors import ArtifactInvalid
    from zoo.records.find import find_artifact

    if artifact and bundle_path(artifact):
        path = Path(artifact)
        if path.is_file():
            raise ArtifactInvalid(f"{path} is an archive; unpack it (`tar xzf {path.name}`) and serve its folder")
    else:
        path = find_artifact(artifact, runs_root(runs), note).path
    # Not resolved: what a link leads to is found out again and again.
    return Path.cwd() / path


def _run(settings: Any, *, json: bool) -> None:
    import os

    from zoo.cli.output import print_json, stdout
    from zoo.deploy.serve.supervisor import Supervisor, address, listen

    listening = listen(settings)
    url = address(listening)

    def ready(model: str) -> None:
        if json:
            print_json({"url": url, "pid": os.getpid(), "model": model})
        else:
            stdout().print(f"serving {settings.path} ({model[:12]}) at {url}", soft_wrap=True)

    Supervisor(settings, listening, ready).run()
