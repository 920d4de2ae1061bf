"""A run from options to `run.json`: names checked first, then data, model, the loop, and the final measure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from zoo.config import RESUME_MAY_CHANGE, Resolved, TrainConfig
from zoo.data.augment import augmentation_maker, find_augmentation
from zoo.data.source import locate, open_dataset
from zoo.errors import (
    CheckpointInvalid,
    DatasetInvalid,
    Interrupted,
    RunInvalid,
    TrainingFailed,
    first_line,
)
from zoo.evaluate.metrics import metrics_of
from zoo.evaluate.report import render_report
from zoo.evaluate.score import eager, probabilities
from zoo.files import write_text
from zoo.labels import tune_thresholds
from zoo.licenses import refuse_license
from zoo.model import BackboneRequest, build_backbone, parameter_count
from zoo.run import Run, RunRecord, now
from zoo.tracking import check_trackers, make_trackers
from zoo.train.allowed import licenses_of, refuse_before_download
from zoo.train.choose import Chosen, choose
from zoo.train.loop import EpochResult, fit
from zoo.train.material import Material, gather
from zoo.train.mix import refuse_odd_batches
from zoo.train.plan import Plan, make_optimizer, make_plan
from zoo.train.state import TrainState, make_state, read_checkpoint
from zoo.train.task import make_task
from zoo.train.watch import Watch
from zoo.train.weighting import check_weights, class_weights
from zoo.versions import git_commit, versions
from zoo.weights import load_weights, save_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zoo.catalogue import Catalogue
    from zoo.data.prepared import PreparedData
    from zoo.installed import Plugin
    from zoo.plugin import Dataset
    from zoo.preprocess import Preprocess
    from zoo.train.loop import Loaders


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """What a run is made of, once everything was found."""

    material: Material
    backbone: torch.nn.Module
    chosen: Chosen
    weights: dict[str, float]
    """Class -> what it weighs in the training loss; empty if all weigh the same."""
    plugins: dict[str, Plugin]
    """Kind -> what the run's names meant."""

    @property
    def data(self) -> PreparedData:
        """The images, screened and split."""
        return self.material.data

    @property
    def loaders(self) -> Loaders:
        """Where batches come from."""
        return self.material.loaders

    @property
    def preprocess(self) -> Preprocess:
        """What the device does to an image."""
        return self.material.loaders.preprocess

    @property
    def owners(self) -> dict[str, str]:
        """Kind -> distribution, as run.json and the checkpoint keep it."""
        return {kind: plugin.distribution for kind, plugin in self.plugins.items()}


def start_run(catalogue: Catalogue, resolved: Resolved, path: Path, watch: Watch | None = None) -> Run:
    """Train a new run in the folder `path`.

    Raises:
        RunInvalid: `path` already holds something.
        ZooError: whatever is wrong with the names, options, data or machine; then nothing was written.
        Interrupted: asked to stop; the state is saved and `resume_run` goes on.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RunInvalid(
            f"{path} already exists; choose another --name, or go on with `zoo train --resume --name {path.name}`"
        )
    watch = watch or Watch()
    check_names(catalogue, resolved.config)
    parts = _find_parts(catalogue, resolved.config, choose(resolved.config), watch)
    state, plan = _set_up(parts, resolved.config)
    run = Run(path)
    state.save(run.checkpoint_file, _about(resolved, parts))
    return _train_and_finish(catalogue, run, resolved, parts, (state, plan), watch)


def resume_run(
    catalogue: Catalogue, run: Run, change: Callable[[TrainConfig], TrainConfig], watch: Watch | None = None
) -> Run:
    """Go on with an unfinished run, to the same end as if it had never stopped.

    Args:
        catalogue: The registry and the plugins.
        run: The folder with `last.ckpt`.
        change: Takes the saved configuration and returns it with what the user asked to change.
        watch: Hears of it.

    Raises:
        CheckpointInvalid: no checkpoint, or one that is not ours.
        DatasetInvalid: the data is not what it was.
    """
    watch = watch or Watch()
    payload = read_checkpoint(run.checkpoint_file)
    about = payload["about"]
    catalogue = catalogue.preferring(about.get("plugins", {}))
    config = change(TrainConfig.model_validate(about["config"]))
    origins = dict(about["origins"])
    origins.update({name: "resume" for name in RESUME_MAY_CHANGE if getattr(config, name) != about["config"][name]})
    resolved = Resolved(config=config, origins=origins)
    # What the backbone began with and what classes weigh stands in the checkpoint; their files may be gone.
    rest = config.model_copy(update={"pretrained": False, "weights": "", "class_weights": ""})
    parts = _find_parts(catalogue, rest, Chosen(**{"split_rule": "rank", **about["chosen"]}), watch)
    parts = replace(parts, weights=about.get("class_weights", {}))
    parts.loaders.train.faults.found.update(about.get("broken", {}))
    if parts.data.fingerprint != about["fingerprint"]:
        raise DatasetInvalid(
            f"dataset {config.dataset!r} has changed since {run.path} began; restore it, or train anew"
        )
    state, plan = _set_up(parts, config)
    try:
        state.load(payload)
    except (KeyError, RuntimeError, ValueError) as exc:
        raise CheckpointInvalid(f"{run.checkpoint_file} does not fit this run: {first_line(exc)}") from exc
    keep_epochs(run.metrics_file, state.epoch)
    watch.note(f"resuming {run.path} in epoch {state.epoch + 1}, step {state.step}")
    return _train_and_finish(catalogue, run, resolved, parts, (state, plan), watch)


def check_names(catalogue: Catalogue, config: TrainConfig) -> None:
    """Raise for any unknown name or ill-typed option, before anything is prepared or written."""
    catalogue.backbone(config.model)
    augmentation_maker(catalogue, config.augment, config.augment_options, (32, 32))()
    locate(catalogue, config.dataset, config.dataset_options)
    check_weights(config.class_weights)
    refuse_odd_batches(config, config.batch_size)
    for make in check_trackers(catalogue, config.trackers, config.tracker_options).values():
        make()


def keep_epochs(metrics_file: Path, epochs: int) -> None:
    """Cut metrics.jsonl back to the epochs that the checkpoint knows of."""
    lines = metrics_file.read_text().splitlines() if metrics_file.is_file() else []
    if len(lines) > epochs:
        write_text(metrics_file, "".join(f"{line}\n" for line in lines[:epochs]))


def _find_parts(catalogue: Catalogue, config: TrainConfig, chosen: Chosen, watch: Watch) -> _Parts:
    torch.set_num_threads(chosen.threads)
    refuse_before_download(catalogue, config)
    dataset = open_dataset(catalogue, config.dataset, config.dataset_options)
    if dataset.license:
        refuse_license(f"dataset {config.dataset!r}", dataset.license, config.license_allow)
    check_weights(config.class_weights, dataset.classes)
    # The model comes before the first look at the images: missing weights should be told at once.
    backbone, preprocess = _backbone(catalogue, config, dataset)
    material = gather(catalogue, config, dataset, preprocess, chosen, watch)
    refuse_odd_batches(config, material.loaders.train.batch_size)
    return _Parts(
        material=material,
        backbone=backbone,
        chosen=replace(chosen, cache=material.cache_mode, split_rule=material.data.rule),
        weights=_weights(config, material.data),
        plugins=_plugins(catalogue, config),
    )


def _weights(config: TrainConfig, data: PreparedData) -> dict[str, float]:
    if not config.class_weights:
        return {}
    return class_weights(config.class_weights, data.splits["train"].labels, data.classes)


def _backbone(catalogue: Catalogue, config: TrainConfig, dataset: Dataset) -> tuple[torch.nn.Module, Preprocess]:
    torch.manual_seed(config.seed)
    request = BackboneRequest(
        num_classes=len(dataset.classes),
        pretrained=config.pretrained and not config.weights,
        weights=load_weights(Path(config.weights).expanduser()) if config.weights else None,
        image_size=config.image_size,
        options=config.backbone_options,
    )
    return build_backbone(catalogue, catalogue.backbone(config.model), request)


def _plugins(catalogue: Catalogue, config: TrainConfig) -> dict[str, Plugin]:
    return {
        "backbone": catalogue.backbone(config.model).plugin,
        "dataset": locate(catalogue, config.dataset, config.dataset_options)[0],
        "augmentation": find_augmentation(catalogue, config.augment),
    }


def _set_up(parts: _Parts, config: TrainConfig) -> tuple[TrainState, Plan]:
    """Make the state of a run that has not begun; a saved one is loaded into it afterwards."""
    layout = torch.channels_last if parts.chosen.layout == "nhwc" else torch.contiguous_format
    model = parts.backbone.to(parts.chosen.device).to(memory_format=layout)
    optimizer = make_optimizer(model, config)
    state = make_state(model, optimizer, ema_decay=config.ema_decay, fp16=parts.chosen.precision == "fp16")
    task = make_task(
        len(parts.data.classes),
        multi_label=parts.data.multi_label,
        smoothing=config.label_smoothing,
        weights=torch.tensor(list(parts.weights.values())) if parts.weights else None,
    )
    return state, make_plan(config, parts.chosen, parts.preprocess, optimizer, len(parts.loaders.train), task)


def _about(resolved: Resolved, parts: _Parts) -> dict[str, Any]:
    return {
        "config": resolved.config.model_dump(mode="json"),
        "origins": resolved.origins,
        "chosen": asdict(parts.chosen),
        "fingerprint": parts.data.fingerprint,
        "classes": list(parts.data.classes),
        "class_weights": parts.weights,
        # Not a copy: what turns out to be broken later is saved as well.
        "broken": parts.loaders.train.faults.found,
        "plugins": parts.owners,
    }


def _train_and_finish(
    catalogue: Catalogue, run: Run, resolved: Resolved, parts: _Parts, going: tuple[TrainState, Plan], watch: Watch
) -> Run:
    config = resolved.config
    trackers = make_trackers(catalogue, config.trackers, config.tracker_options, watch.note)
    trackers.start(run.path, config.model_dump(mode="json"))
    metrics: dict[str, Any] = {}
    try:
        for result in _train(run, _about(resolved, parts), parts, going, watch):
            watch.epoch(result)
            trackers.epoch(result.to_json())
        _finish(run, resolved, parts, going)
        metrics = run.record().metrics
    finally:
        trackers.end(metrics)
    return run


def _train(
    run: Run, about: dict[str, Any], parts: _Parts, going: tuple[TrainState, Plan], watch: Watch
) -> Iterator[EpochResult]:
    """Yield each epoch once it is saved; save the state as well when asked to stop."""
    state, plan = going
    watch.begin(state, plan.epochs, plan.steps_per_epoch, parts.loaders.train.batch_size)
    try:
        for result in fit(state, parts.loaders, plan, watch.step):
            _save_epoch(run, state, result, about)
            parts.material.keep(watch)
            yield result
    except Interrupted as exc:
        state.save(run.checkpoint_file, about)
        raise type(exc)(f"stopped; go on with `zoo train --resume --name {run.path.name}`") from None
    except torch.OutOfMemoryError as exc:
        raise TrainingFailed("the device is out of memory; try a smaller --batch-size or --image-size") from exc


def _save_epoch(run: Run, state: TrainState, result: EpochResult, about: dict[str, Any]) -> None:
    if result.best:
        save_weights(run.best_file, state.weights_to_ship().state_dict())
    with run.metrics_file.open("a") as file:
        file.write(json.dumps(result.to_json()) + "\n")
    state.save(run.checkpoint_file, about)


def _finish(run: Run, resolved: Resolved, parts: _Parts, going: tuple[TrainState, Plan]) -> Run:
    config = resolved.config
    parts = replace(parts, material=parts.material.settled())
    data = parts.data
    state, plan = going
    thresholds, measured = _final_metrics(run, parts)
    record = RunRecord(
        model=config.model,
        dataset=config.dataset,
        classes=data.classes,
        multi_label=data.multi_label,
        thresholds=thresholds,
        class_weights=parts.weights,
        preprocess=parts.preprocess.to_json(),
        config=config.model_dump(mode="json"),
        origins=resolved.origins,
        chosen=asdict(parts.chosen),
        metrics={"epochs": state.epoch, f"best_val_{plan.task.watched}": state.best_score, **measured},
        versions=versions(list(parts.plugins.values())),
        plugins=parts.owners,
        seed=config.seed,
        dataset_fingerprint=data.fingerprint,
        dataset_sizes={name: len(split) for name, split in data.splits.items()},
        skipped_images=dict(data.skipped),
        licenses=licenses_of(parts.plugins["backbone"], parts.backbone, parts.data, pretrained=config.pretrained),
        parameters=parameter_count(parts.backbone),
        git_commit=git_commit(),
        created=now(),
    )
    epochs = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
    write_text(run.report_file, render_report(run.path.name, record, epochs))
    run.write_record(record)
    return run


def _final_metrics(run: Run, parts: _Parts) -> tuple[dict[str, float], dict[str, Any]]:
    """Measure the best weights the way they ship: raw pixels in, fp32; return thresholds tuned on val, and metrics."""
    data = parts.data
    parts.backbone.load_state_dict(load_weights(run.best_file))
    shipped = parts.preprocess.wrap(parts.backbone.eval(), multi_label=data.multi_label).eval()
    predict = eager(shipped, device=parts.chosen.device)
    scores = {
        name: probabilities(predict, data.splits[name], parts.preprocess, workers=parts.loaders.workers)
        for name in ("val", "test")
    }
    tuned = tune_thresholds(data.splits["val"].labels, scores["val"]) if data.multi_label else None
    found = {name: metrics_of(data.splits[name].labels, scores[name], data.classes, tuned) for name in scores}
    return dict(zip(data.classes, tuned.tolist(), strict=True)) if tuned is not None else {}, found
