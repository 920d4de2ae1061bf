"""The end of a run: its best weights measured as they ship, thresholds tuned, the record and the page written."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from zoo.catalogue.made.backbone import parameter_count
from zoo.disk.files import write_text
from zoo.disk.weights import load_weights
from zoo.evaluation.labels import tune_thresholds
from zoo.evaluation.metrics import metrics_of
from zoo.records.answers import eager, probabilities
from zoo.records.page import render_report
from zoo.records.record import RunRecord, now
from zoo.records.versions import git_commit
from zoo.training.allowed import licenses_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo.records.config import Resolved
    from zoo.records.run import Run
    from zoo.training.learn.state import TrainState
    from zoo.training.parts import Parts


def finish(
    run: Run,
    resolved: Resolved,
    parts: Parts,
    state: TrainState,
    watched: str,
    progress: Callable[[int, int], None],
) -> None:
    """Declare a run finished.

    Args:
        run: Its folder, with the best weights.
        resolved: What it was asked for.
        parts: What it was made of.
        state: Where it ended.
        watched: The figure that chose the best weights.
        progress: Called while images are measured; it may raise to stop.
    """
    config, data = resolved.config, parts.data
    thresholds, measured = _measure(run, parts, progress)
    record = RunRecord(
        model=config.model,
        dataset=config.dataset,
        classes=data.classes,
        multi_label=data.multi_label,
        thresholds=thresholds,
        class_weights=parts.weights,
        teacher=parts.teacher.facts() if parts.teacher else {},
        parent=parts.parent,
        preprocess=parts.preprocess.to_json(),
        config=config.model_dump(mode="json"),
        origins=resolved.origins,
        chosen=asdict(parts.chosen),
        metrics={"epochs": state.epoch, **_best(state, watched), **measured},
        versions=parts.versions,
        plugins=parts.owners,
        seed=config.seed,
        dataset_fingerprint=data.fingerprint,
        dataset_sizes={name: len(split) for name, split in data.splits.items()},
        skipped_images=dict(data.skipped),
        licenses=_licenses(parts, pretrained=config.pretrained),
        parameters=parameter_count(parts.backbone),
        git_commit=git_commit(),
        created=now(),
    )
    epochs = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
    write_text(run.report_file, render_report(run.name, record, epochs))
    run.write_record(record)


def _licenses(parts: Parts, *, pretrained: bool) -> dict[str, str]:
    own = licenses_of(parts.plugins.backbone.plugin, parts.backbone, parts.data, pretrained=pretrained)
    return {**own, "weights": str(parts.parent["license"])} if parts.parent else own


def _best(state: TrainState, watched: str) -> dict[str, float]:
    figure = state.best_loss if watched == "loss" else state.best_score
    # Runs begun by an older version may lack a history.
    best = {f"best_val_{watched}": figure} | ({} if state.best_epoch is None else {"best_epoch": state.best_epoch})
    return best | ({"blend": state.blend} if state.blend else {})


def _measure(run: Run, parts: Parts, progress: Callable[[int, int], None]) -> tuple[dict[str, float], dict[str, Any]]:
    """Measure the best weights the way they ship: raw pixels in, fp32; return thresholds tuned on val, and metrics."""
    data = parts.data
    parts.backbone.load_state_dict(load_weights(run.best_file))
    shipped = parts.preprocess.wrap(parts.backbone.eval(), multi_label=data.multi_label).eval()
    predict, workers = eager(shipped, device=parts.chosen.device), parts.loaders.workers
    scores = {
        name: probabilities(predict, data.splits[name], parts.preprocess, workers=workers, progress=progress)
        for name in ("val", "test")
    }
    tuned = tune_thresholds(data.splits["val"].labels, scores["val"]) if data.multi_label else None
    found = {name: metrics_of(data.splits[name].labels, scores[name], data.classes, tuned) for name in scores}
    return dict(zip(data.classes, tuned.tolist(), strict=True)) if tuned is not None else {}, found
