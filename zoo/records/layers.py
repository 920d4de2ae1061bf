"""A run's options, laid over each other from defaults to command line, and what a resume may change of them."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.catalogue.made.augmentation import lasting_file
from zoo.catalogue.made.dataset import lasting_name, lasting_options
from zoo.disk.home import runs_root
from zoo.errors import OptionInvalid, RunInvalid, UnknownName, shown
from zoo.records.find import find_run
from zoo.records.options import BALANCED, training_options
from zoo.records.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pydantic import ValidationError

    from zoo.catalogue import BackboneChoice, Catalogue
    from zoo.catalogue.registry import Registry
    from zoo.records.config import Resolved, TrainConfig


Layer = tuple[str, dict[str, Any]]
"""Where values come from, and the values."""


SYNONYMS = {
    "learning_rate": "lr",
    "batch": "batch_size",
    "bs": "batch_size",
    "imgsz": "image_size",
    "img_size": "image_size",
    "opt": "optimizer",
    "wd": "weight_decay",
    "from": "parent",
    "checkpoint": "weights",
    "smoothing": "label_smoothing",
    "scheduler": "schedule",
    "augmentation": "augment",
}
"""What others call an option."""


def merged(layers: Sequence[Layer]) -> tuple[dict[str, Any], dict[str, str]]:
    """Lay `layers` over each other, the later over the earlier: values as they were given, and where each came from.

    Raises:
        OptionInvalid: an unknown option, or a table where there was none; the layer is named.
    """
    values: dict[str, Any] = {}
    origins = dict.fromkeys(training_options(), "default")
    for origin, given in layers:
        for key, value in given.items():
            if key not in origins:
                raise OptionInvalid(unknown_option(key, f" (from {origin})"))
            if isinstance(value, bool) and training_options()[key].type is not bool:
                raise OptionInvalid(f"option {key} = {value} (from {origin}): yes or no is no answer here")
            below = values.get(key, {})
            if isinstance(value, dict) and not isinstance(below, dict):
                raise OptionInvalid(
                    f"option {key} is a table (from {origin}) over {shown(below)} (from {origins[key]}); take one away"
                )
            values[key] = {**below, **value} if isinstance(value, dict) else value
            origins[key] = origin
    return values, origins


def resolve(layers: Sequence[Layer]) -> Resolved:
    """Lay `layers` over the built-in defaults, the later over the earlier.

    Raises:
        OptionInvalid: an unknown option, a wrong type or a value out of range; the layer is named.
    """
    values, origins = merged(layers)
    # Whatever is wrong with a name or a file is told before pydantic is loaded.
    from pydantic import ValidationError

    from zoo.records.config import Resolved, TrainConfig

    try:
        return Resolved(config=TrainConfig(**values), origins=origins)
    except ValidationError as exc:
        raise OptionInvalid(_one_line(exc, origins)) from exc


def model_layer(choice: BackboneChoice) -> Layer:
    """Return what the registry's model entry says about training, without its recipe."""
    entry = choice.entry
    values: dict[str, Any] = {"pretrained": entry.pretrained}
    if entry.image_size:
        values["image_size"] = entry.image_size
    if entry.options:
        values["backbone_options"] = entry.options
    return f"model {choice.name}", values if choice.name != entry.backbone else {}


def recipe_layers(registry: Registry, name: str, *, _below: tuple[str, ...] = ()) -> list[Layer]:
    """Return a recipe (of the registry, or a file if it ends in .toml) and all that it extends, the most general first.

    Raises:
        UnknownName: no such recipe.
        OptionInvalid: a file that cannot be read; recipes that extend each other in a circle.
    """
    file = name if name.endswith(".toml") else ""
    if not file and name not in registry.recipes:
        close = difflib.get_close_matches(name, registry.recipes, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(registry.recipes)}"
        raise UnknownName(f"no recipe is named {name!r}; {hint}")
    if name in _below:
        raise OptionInvalid(
            f"recipe {name!r} extends itself through {' and '.join(_below)}; break that circle in registry.toml"
        )
    values = dict(file_layer(Path(file), "--recipe")[1] if file else registry.recipes[name])
    values.pop("description", None)
    parent = values.pop("extends", None)
    below = recipe_layers(registry, parent, _below=(*_below, name)) if parent else []
    return [*below, (f"recipe {name}", values)]


def file_layer(path: Path, flag: str = "--config") -> Layer:
    """Read `--config FILE` or `--recipe FILE`, a TOML file of options.

    Raises:
        OptionInvalid: missing, or not TOML.
    """
    try:
        return str(path), tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as exc:
        raise OptionInvalid(f"{flag} {path}: cannot be read: {exc.strerror}") from exc
    except (ValueError, RecursionError) as exc:
        raise OptionInvalid(f"{flag} {path}: not valid TOML: {exc}") from exc


def changed_on_resume(saved: TrainConfig, given: Mapping[str, Any]) -> TrainConfig:
    """Return the saved configuration with those of the given options that a resume may change.

    Raises:
        OptionInvalid: an option that differs and may not change; all of them are named.
    """
    from zoo.records.config import RESUME_MAY_CHANGE

    asked = resolve([("saved run", saved.model_dump()), ("command line", dict(given))]).config
    differing = [name for name in training_options() if getattr(asked, name) != getattr(saved, name)]
    refused = [name for name in differing if name not in RESUME_MAY_CHANGE]
    if refused:
        was = ", ".join(f"{name} was {getattr(saved, name)!r}, now {getattr(asked, name)!r}" for name in refused)
        raise OptionInvalid(
            f"a resumed run keeps its options: {was}; leave them out, or train anew under another --name"
        )
    return asked


def unknown_option(name: str, where: str = "") -> str:
    """Return what is said of an option that does not exist."""
    close = [SYNONYMS[name]] if name in SYNONYMS else difflib.get_close_matches(name, training_options(), n=1)
    hint = f"did you mean {close[0]}?" if close else "`zoo train --help` lists them"
    return f"no training option is named {name!r}{where}; {hint}"


def missing_option(name: str) -> str:
    """Return what is said where an option is missing that has no default."""
    return f"training needs a {name}; for example `zoo train tiny --dataset digits`"


def _one_line(exc: ValidationError, origins: Mapping[str, str]) -> str:
    error = exc.errors()[0]
    # A name that is no UTF-8 has no place.
    key = str(error["loc"][0]) if error["loc"] else "with a name that is no text"
    where = f" (from {origins[key]})" if key in origins else ""
    if error["type"] == "missing":
        return missing_option(key)
    row = training_options().get(key)
    if row and row.number_or and error["type"] not in ("greater_than_equal", "less_than_equal"):
        return f"option {key} = {shown(error['input'])}{where}: write a whole number, or {' or '.join(row.number_or)}"
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"option {key} = {shown(error['input'])}{where}: {message}"


DEFAULT_RECIPE, FROM_RANDOM = "finetune", "from-scratch"
"""What a model gets whose entry names no recipe, with pretrained weights and without."""
OF_THE_MACHINE = frozenset(
    {"cache", "cache_limit", "checkpoint_minutes", "checkpoint_steps", "compile", "device", "fsdp", "layout"}
    | {"precision", "sync_batchnorm", "threads", "workers"}
)


OF_THE_BEGINNING = frozenset(
    {"freeze", "head", "image_size_start", "layer_decay", "lr", "parent", "pretrained", "probe", "qat", "teacher"}
    | {"unfreeze_epoch", "warmup_epochs", "weights"}
)
"""Options of a run's own start, which make no sense for one that goes on from its end."""


OF_THE_DATASET = frozenset({"dataset_options", "folds", "fold"})


SLOWER = 0.1
"""Learning rate of what goes on, as a share of the first run's."""


QAT: dict[str, Any] = {"epochs": 2, "precision": "fp32"}
"""Long enough for most; and bf16 has no more digits than the rounding that is to be learned."""


def parent_layers(path: Path, *, dataset: str | None = None, qat: bool = False) -> list[Layer]:
    """Return the options of a finished run that hold for one that goes on from it, and those that differ.

    Args:
        path: Of the run.
        dataset: What is asked for; another one than the run's has options of its own.
        qat: Whether int8's rounding is to be learned.

    Raises:
        RunInvalid: it is not finished, or damaged.
    """
    run = Run(path)
    config = config_of(run)
    left_out = OF_THE_MACHINE | OF_THE_BEGINNING
    if dataset not in (None, config.dataset):
        left_out |= OF_THE_DATASET
    kept = {name: value for name, value in config.model_dump().items() if name not in left_out}
    gentler: dict[str, Any] = {"pretrained": False, "lr": SLOWER * config.lr, "warmup_epochs": 0.0}
    return [(f"run {run.name}", kept), ("--from", gentler), *([("--qat", QAT)] if qat else [])]


def option_layers(
    catalogue: Catalogue, given: dict[str, Any], recipe: str | None, config: Path | None, runs: Path | None = None
) -> list[Layer]:
    """Return recipe, model entry, file and command line, the most general first; a parent is found below `runs`."""
    layers = [file_layer(config)] if config else []
    asked = {**(layers[0][1] if layers else {}), **given}
    below: list[Layer] = []
    if asked.get("parent"):
        path = Path(lasting_teacher(asked["parent"], runs_root(runs)))
        dataset = lasting_name(catalogue, asked["dataset"]) if asked.get("dataset") else None
        below = parent_layers(path, dataset=dataset, qat=bool(asked.get("qat")))
    model = asked.get("model")
    if below:
        recipes = recipe_layers(catalogue.registry, recipe) if recipe else []
        layers = [*below, *recipes, *layers]
    elif model:
        choice = catalogue.backbone(model)
        random = asked.get("pretrained", choice.entry.pretrained) is False and not asked.get("weights")
        usual = FROM_RANDOM if random else DEFAULT_RECIPE
        recipes = recipe_layers(catalogue.registry, recipe or choice.entry.recipe or usual)
        layers = [*recipes, model_layer(choice), *layers]
    return [*layers, ("command line", given)]


def resolve_options(
    catalogue: Catalogue, given: dict[str, Any], recipe: str | None, config: Path | None, runs: Path | None = None
) -> Resolved:
    """Lay defaults, recipe, model entry, file and command line over each other; a teacher is found below `runs`."""
    resolved = resolve(option_layers(catalogue, given, recipe, config, runs))
    absolute = lasting(catalogue, resolved.config.model_dump(), runs)
    return resolved.model_copy(update={"config": resolved.config.model_copy(update=absolute)})


def lasting(catalogue: Catalogue, values: dict[str, Any], runs: Path | None) -> dict[str, Any]:
    """Return those of the values that may be paths, as they mean the same from any folder."""

    def lasting_dataset(name: str) -> str:
        return lasting_name(catalogue, name)

    def lasting_run(name: str) -> str:
        return lasting_teacher(name, runs_root(runs))

    makers: dict[str, Callable[[Any], Any]] = {
        "dataset": lasting_dataset,
        "dataset_options": lasting_options,
        "augment": lasting_file,
        "class_weights": lasting_weights,
        "teacher": lasting_run,
        "parent": lasting_run,
    }
    return {key: make(values[key]) for key, make in makers.items() if key in values}


def lasting_weights(asked: str) -> str:
    """Return what means the same from any folder: a file's path becomes absolute."""
    return asked if asked in ("", BALANCED) else str(Path(asked).expanduser().resolve())


def lasting_teacher(asked: str, root: Path) -> str:
    """Return the absolute path of a run given by name or path; empty stays empty.

    Raises:
        RunInvalid: there is none.
    """
    return str(find_run(asked, root).path.resolve()) if asked else ""


def config_of(run: Run) -> TrainConfig:
    """Return the options of a finished run; raise RunInvalid if they are none that zoo knows."""
    from zoo.records.config import TrainConfig

    try:
        return TrainConfig.model_validate(run.record().config)
    except ValueError as exc:
        raise RunInvalid(f"{run.record_file} is damaged: its options are not those of zoo train; train again") from exc
