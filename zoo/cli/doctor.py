"""`zoo doctor`: what stands in the way on this machine, and the mend."""

from __future__ import annotations

import typer

from zoo.cli.options import Json


def doctor_cli(ctx: typer.Context, json: Json = False) -> None:
    """Check the installation: packages that do not fit together, broken plugins, folders that cannot be written."""
    from zoo.catalogue.doctor import examine
    from zoo.cli.output import print_json, print_table

    checks = examine(ctx.obj.catalogue())
    if json:
        print_json([vars(check) for check in checks])
    else:
        print_table(["check", "state", "", "mend"], [(c.name, c.state, c.detail, c.mend) for c in checks])
    if any(check.state == "broken" for check in checks):
        raise typer.Exit(1)
