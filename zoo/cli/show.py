"""`zoo show`: everything that is known of one thing."""

from __future__ import annotations

import enum
import inspect
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.completion import things
from zoo.cli.options import Json, Runs

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.catalogue import Catalogue
    from zoo.catalogue.installed import Plugin
    from zoo.catalogue.options import Option


class Thing(enum.StrEnum):
    """What can be shown."""

    model = "model"
    dataset = "dataset"
    augmentation = "augmentation"
    exporter = "exporter"
    tracker = "tracker"
    target = "target"
    run = "run"
    artifact = "artifact"


def show_cli(
    ctx: typer.Context,
    kind: Annotated[Thing, typer.Argument(help="What kind of thing.")],
    name: Annotated[
        str | None, typer.Argument(help="Its name [default for runs and artifacts: the newest].", autocompletion=things)
    ] = None,
    runs: Runs = None,
    json: Json = False,
) -> None:
    """Show one model, dataset, augmentation, exporter, tracker, target, run or artifact."""
    from zoo.cli.output import print_json, print_table

    if name is None and kind not in (Thing.run, Thing.artifact):
        raise typer.BadParameter(f"which {kind}? `zoo list {kind}s` shows what there is")
    facts = _facts(ctx.obj.catalogue(), kind, name or "", runs)
    if json:
        print_json(facts)
        return
    # Those that an artifact was made with are plain facts of it.
    options = [] if kind is Thing.artifact else facts.pop("options", [])
    print_table([kind.value, ""], [(key, _short(value)) for key, value in facts.items()])
    if options:
        rows = [(o["name"], o["type"], repr(o["default"]), o["help"]) for o in options]
        print_table(["option", "type", "default", "what it does"], rows)


def _facts(catalogue: Catalogue, kind: Thing, name: str, runs: Path | None) -> dict[str, Any]:
    if kind is Thing.model:
        return _model(catalogue, name)
    if kind is Thing.target:
        target = catalogue.target(name)
        return {**vars(target), "is_here": target.is_here}
    if kind is Thing.run:
        return _run(name, runs)
    if kind is Thing.artifact:
        return _artifact(name, runs)
    return _plugin(catalogue, kind, name)


def _model(catalogue: Catalogue, name: str) -> dict[str, Any]:
    from zoo.catalogue.licenses import code_license
    from zoo.catalogue.made.backbone import BackboneRequest, outline, parameter_count
    from zoo.catalogue.options import options_of

    choice = catalogue.backbone(name)
    request = BackboneRequest(num_classes=1000, image_size=choice.entry.image_size, options=choice.entry.options)
    backbone, preprocess = outline(catalogue, choice, request)
    cfg = getattr(backbone, "pretrained_cfg", {})
    has_weights = choice.entry.pretrained and bool(cfg.get("tag") or cfg.get("hf_hub_id") or cfg.get("url"))
    options = {} if choice.member else options_of(catalogue.load(choice.plugin))
    return {
        "name": name,
        "description": choice.entry.description,
        "backbone": f"{choice.plugin.name}/{choice.member}" if choice.member else choice.plugin.name,
        "from": choice.plugin.owner,
        "recipe": choice.entry.recipe,
        "parameters": parameter_count(backbone),
        "code license": code_license(choice.plugin.distribution),
        "pretrained": has_weights,
        "weights": cfg.get("hf_hub_id") or cfg.get("url") or "",
        "weights license": (cfg.get("license") or "unknown") if has_weights else "none needed",
        **{f"preprocess {key}": value for key, value in preprocess.to_json().items()},
        "options": [_option(option) for option in options.values()],
    }


def _plugin(catalogue: Catalogue, kind: Thing, name: str) -> dict[str, Any]:
    from zoo.catalogue.made.exporter import make_exporter
    from zoo.catalogue.options import exporter_options, options_of

    entry = catalogue.registry.datasets.get(name) if kind is Thing.dataset else None
    plugin = catalogue.find(kind, entry.plugin if entry and entry.plugin else name)
    loaded = catalogue.load(plugin)
    facts = _origin(plugin) | {"about": _about(loaded)}
    if kind is Thing.exporter:
        exporter = make_exporter(catalogue, plugin)
        facts |= {"suffix": exporter.suffix, "precisions": ", ".join(exporter.precisions)}
        options = exporter_options(exporter)
    else:
        options = options_of(loaded)
    if entry:
        facts |= {
            key: value for key, value in vars(entry).items() if value and key not in ("plugin", "options", "install")
        }
    if kind is Thing.dataset:
        facts["license"] = (entry and entry.license) or "told once it is prepared"
    facts["options"] = [_option(option) for option in options.values()]
    return facts


def _about(loaded: Any) -> str:
    """Return what the docstring says before its sections: options have a table of their own."""
    return (inspect.getdoc(loaded) or "").split("\n\nArgs:")[0].split("\n\nOptions:")[0].split("\n\nRaises:")[0]


def _option(option: Option) -> dict[str, Any]:
    default = option.default if isinstance(option.default, str | int | float | bool | None) else repr(option.default)
    return {"name": option.name, "type": option.type_name, "default": default, "help": option.help}


def _origin(plugin: Plugin) -> dict[str, Any]:
    from zoo.catalogue.licenses import code_license

    return {
        "name": plugin.name,
        "from": plugin.owner,
        "entry point": plugin.entry_point.value,
        "code license": code_license(plugin.distribution),
    }


def _run(name: str, runs: Path | None) -> dict[str, Any]:
    from zoo.disk.home import runs_root
    from zoo.records.artifact import list_artifacts
    from zoo.records.find import find_run
    from zoo.training.folds.result import read

    run = find_run(name or None, runs_root(runs))
    if run.folds_file.is_file():
        return {"path": str(run.path), **read(run).model_dump(mode="json", by_alias=True)}
    record = run.record().model_dump(mode="json", by_alias=True)
    artifacts = [str(a.path) for a in list_artifacts(run.export_folder)]
    return {"path": str(run.path), **record, "artifacts": artifacts}


def _artifact(name: str, runs: Path | None) -> dict[str, Any]:
    from zoo.contracts.progress import note
    from zoo.disk.home import runs_root
    from zoo.records.find import find_artifact

    artifact = find_artifact(name or None, runs_root(runs), note)
    page = {"page": str(artifact.page)} if artifact.page.is_file() else {}
    return {"path": str(artifact.path), **page, **artifact.manifest().model_dump(mode="json", by_alias=True)}


def _short(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "any"
    text = "; ".join(f"{k}: {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
    return text if len(text) <= 600 else f"{text[:600]} ... (--json shows all)"
