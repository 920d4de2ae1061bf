"""The `zoo` program: its commands, its global options, and the only place where an error is printed and ends it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from zoo.cli import (
    bench,
    bundle,
    data,
    doctor,
    evaluate,
    export,
    listing,
    monitor,
    plugin,
    predict,
    serve,
    show,
    train,
    tune,
    verify,
)
from zoo.cli.flags import GroupedCommand
from zoo.cli.plain import PlainCommand, plainly
from zoo.errors import EXIT_DONE, EXIT_ERROR, EXIT_INTERRUPTED, Elsewhere, ZooError, first_line, lacks_memory

if TYPE_CHECKING:
    from zoo.catalogue import Catalogue
    from zoo.catalogue.installed import Installed


LESS_MEMORY = "end other programs; in training fewer --workers, a smaller --batch-size or --image-size take less"


@dataclass(frozen=True)
class Globals:
    """What was said before the command."""

    debug: bool
    registry: Path | None
    installed: Installed

    def catalogue(self) -> Catalogue:
        """Lay the registry over the installed plugins."""
        from zoo.catalogue import Catalogue

        return Catalogue.read(self.registry, self.installed)


class OneLineErrors(TyperGroup):
    """Print any error as one line; `--debug` lets the traceback through."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the global options, taken as they are typed."""
        return plainly(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:
        """Run the command and turn what it raises into an exit code."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # The reader has gone (`zoo list models | head`): nothing is left to say, also not at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise typer.Exit(EXIT_DONE) from None
        except (typer.Exit, typer.Abort):
            raise
        except Elsewhere as exc:
            raise typer.Exit(exc.exit_code) from None
        except ZooError as exc:
            self._stop(ctx, str(exc), exc.exit_code)
        except KeyboardInterrupt:
            self._stop(ctx, "interrupted", EXIT_INTERRUPTED)
        except OSError as exc:
            self._stop(ctx, f"{exc.filename or 'the system'}: {exc.strerror or exc}", EXIT_ERROR)
        except Exception as exc:
            if type(exc).__module__.startswith(("click", "typer")):
                raise
            if lacks_memory(exc):
                self._stop(ctx, f"out of memory: {first_line(exc)}; {LESS_MEMORY}", EXIT_ERROR)
            self._stop(ctx, f"internal error: {type(exc).__name__}: {first_line(exc)}; --debug shows where", EXIT_ERROR)

    def _stop(self, ctx: Any, text: str, code: int) -> None:
        if ctx.params.get("debug"):
            raise
        line = " ".join(text.split())
        typer.secho(f"zoo: {line}", err=True, fg="red")
        raise typer.Exit(code) from None


app = typer.Typer(
    cls=OneLineErrors,
    name="zoo",
    help="From a folder of images to a classifier that is tested on those images and runs on a small device.",
    no_args_is_help=True,
    # Rich help costs as much again as the whole start; plain help is as readable.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _print_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        from zoo.catalogue.installed import OURS

        typer.echo(f"zoo {version(OURS)}")
        raise typer.Exit


@app.callback()
def main(
    ctx: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    registry: Annotated[str | None, typer.Option(help="A registry.toml to lay over the built-in one.")] = None,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take the global options."""
    from zoo.catalogue.installed import installed_plugins

    # Before the command's parameters are converted: pydantic does that, and a bad distribution would stop it.
    ctx.obj = Globals(debug, Path(registry) if registry else None, installed_plugins())


app.command("train", cls=GroupedCommand)(train.train_cli)
app.command("tune", cls=GroupedCommand)(tune.tune_cli)
app.command("eval", cls=PlainCommand)(evaluate.eval_cli)
app.command("export", cls=PlainCommand)(export.export_cli)
app.command("verify", cls=PlainCommand)(verify.verify_cli)
app.command("predict", cls=PlainCommand)(predict.predict_cli)
app.command("bundle", cls=PlainCommand)(bundle.bundle_cli)
app.command("monitor", cls=PlainCommand)(monitor.monitor_cli)
app.command("serve", cls=PlainCommand)(serve.serve_cli)
app.command("bench", cls=PlainCommand)(bench.bench_cli)
app.command("list", cls=PlainCommand)(listing.list_cli)
app.command("show", cls=PlainCommand)(show.show_cli)
app.add_typer(data.data_app, name="data")
app.add_typer(plugin.plugin_app, name="plugin")
app.command("doctor", cls=PlainCommand)(doctor.doctor_cli)
