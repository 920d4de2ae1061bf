"""`zoo bundle`: artifact -> one archive for a device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.completion import names
from zoo.cli.options import Json, Runs


def bundle_cli(
    ctx: typer.Context,
    artifact: Annotated[str | None, typer.Argument(help="An artifact or its run [default: the newest].")] = None,
    target: Annotated[
        str | None,
        typer.Option(help="A device [default: the one it was exported for].", autocompletion=names("target")),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The archive [default: in the run's folder `bundle`].")] = None,
    sign: Annotated[Path | None, typer.Option(help="Sign it with this Ed25519 private key, in PEM.")] = None,
    ort: Annotated[
        bool, typer.Option("--ort", help="Also as .ort, with the operators that a minimal onnxruntime needs.")
    ] = False,
    web_runtime: Annotated[
        Path | None, typer.Option(help="For browsers: the .tgz of onnxruntime-web [default: npm fetches it].")
    ] = None,
    runs: Runs = None,
    json: Json = False,
) -> None:
    """Put an accepted artifact and the runtime without torch into one archive that runs on a device.

    The device needs Python, numpy, onnxruntime and Pillow; `README.md` in the archive tells the rest. For a browser
    (`--target browser`) a page that runs the model is in it as well.
    """
    from zoo.cli.output import print_json, print_table, stdout
    from zoo.deploy.door import bundle

    made = bundle(
        artifact,
        target,
        out,
        sign=sign,
        ort=ort,
        web_runtime=web_runtime,
        runs=runs,
        catalogue=ctx.obj.catalogue(),
    )
    if json:
        print_json(made.to_json())
        return
    print_table(["file", "kB"], [(name, f"{size / 1e3:.1f}") for name, size in made.files.items()])
    signed = "signed; " if made.signed else ""
    stdout().print(f"{made.path}: {made.size_bytes / 1e6:.2f} MB, {signed}sha256 {made.sha256}", soft_wrap=True)
    stdout().print(f"on the device: tar xzf {made.path.name} && cd {made.folder} && cat README.md", soft_wrap=True)
