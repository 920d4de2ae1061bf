"""A run from options to `run.json`: names checked first, then data, model, the loop, and the final measure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from zoo.config import RESUME_MAY_CHANGE, Resolved, TrainConfig
from zoo.data.augment import augmentation_maker, find_augmentation
from zoo.data.loader import TrainLoader, worker_count
from zoo.data.prepared import PreparedData, prepare
from zoo.data.source import locate, open_dataset
from zoo.errors import (
    CheckpointInvalid,
    DatasetInvalid,
    Interrupted,
    RunInvalid,
    TrainingFailed,
    first_line,
)
from zoo.evaluate.metrics import classification_metrics
from zoo.evaluate.report import render_report
from zoo.evaluate.score import eager, probabilities
from zoo.files import write_text
from zoo.licenses import refuse_license
from zoo.model import BackboneRequest, build_backbone, parameter_count
from zoo.run import Run, RunRecord, now
from zoo.tracking import check_trackers, make_trackers
from zoo.train.allowed import licenses_of, refuse_before_download
from zoo.train.loop import EpochResult, Loaders, fit
from zoo.train.plan import Chosen, Plan, choose, make_optimizer, make_plan
from zoo.train.state import TrainState, make_state, read_checkpoint
from zoo.train.watch import Watch
from zoo.versions import git_commit, versions
from zoo.weights import load_weights, save_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zoo.catalogue import Catalogue
    from zoo.installed import Plugin
    from zoo.plugin import Dataset
    from zoo.preprocess import Preprocess


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """What a run is made of, once everything was found."""

    data: PreparedData
    backbone: torch.nn.Module
    preprocess: Preprocess
    chosen: Chosen
    loaders: Loaders
    plugins: dict[str, Plugin]
    """Kind -> what the run's names meant."""

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
    parts = _find_parts(
        catalogue, config.model_copy(update={"pretrained": False, "weights": ""}), Chosen(**about["chosen"]), watch
    )
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
    # The model comes before the first look at the images: missing weights should be told at once.
    backbone, preprocess = _backbone(catalogue, config, dataset)
    data = prepare(dataset, config.dataset, seed=config.seed, progress=watch.screening)
    for image, fault in list(data.skipped.items())[:5]:
        watch.note(f"left out: {image} {fault}")
    if len(data.skipped) > 5:
        watch.note(f"left out: {len(data.skipped)} images in all; run.json names every one")
    workers = worker_count(config.workers)
    train = TrainLoader(
        split=data.splits["train"],
        augmentation=augmentation_maker(catalogue, config.augment, config.augment_options, preprocess.size),
        size=preprocess.size,
        batch_size=min(config.batch_size, len(data.splits["train"])),
        seed=config.seed,
        workers=workers,
    )
    loaders = Loaders(train=train, val=data.splits["val"], preprocess=preprocess, workers=workers)
    return _Parts(
        data=data,
        backbone=backbone,
        preprocess=preprocess,
        chosen=chosen,
        loaders=loaders,
        plugins=_plugins(catalogue, config),
    )


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
    return state, make_plan(config, parts.chosen, parts.preprocess, optimizer, len(parts.loaders.train))


def _about(resolved: Resolved, parts: _Parts) -> dict[str, Any]:
    return {
        "config": resolved.config.model_dump(mode="json"),
        "origins": resolved.origins,
        "chosen": asdict(parts.chosen),
        "fingerprint": parts.data.fingerprint,
        "classes": list(parts.data.classes),
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
        _finish(run, resolved, parts, going[0])
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


def _finish(run: Run, resolved: Resolved, parts: _Parts, state: TrainState) -> Run:
    config, data = resolved.config, parts.data
    record = RunRecord(
        model=config.model,
        dataset=config.dataset,
        classes=data.classes,
        multi_label=data.multi_label,
        preprocess=parts.preprocess.to_json(),
        config=config.model_dump(mode="json"),
        origins=resolved.origins,
        chosen=asdict(parts.chosen),
        metrics={"epochs": state.epoch, "best_val_top1": state.best_top1, **_final_metrics(run, parts)},
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


def _final_metrics(run: Run, parts: _Parts) -> dict[str, Any]:
    """Measure the best weights the way they ship: raw pixels in, fp32."""
    parts.backbone.load_state_dict(load_weights(run.best_file))
    shipped = parts.preprocess.wrap(parts.backbone.eval(), multi_label=parts.data.multi_label).eval()
    predict = eager(shipped, device=parts.chosen.device)
    found = {}
    for name in ("val", "test"):
        split = parts.data.splits[name]
        scores = probabilities(predict, split, parts.preprocess, workers=parts.loaders.workers)
        found[name] = classification_metrics(split.labels, scores, parts.data.classes)
    return found
