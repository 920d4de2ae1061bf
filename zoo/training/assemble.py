"""What moves and what it moves by, made of a run's parts: the model in its place, the state, the plan."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from zoo.training.learn.distill import make_distillation
from zoo.training.learn.freeze import check_classifier
from zoo.training.learn.optimizer import make_optimizer
from zoo.training.learn.plan import Plan, make_plan
from zoo.training.learn.probe import begins_fitted
from zoo.training.learn.qat import with_rounding
from zoo.training.learn.resize import check_growth, make_growth
from zoo.training.learn.state import TrainState, make_average, make_state
from zoo.training.learn.task import make_task
from zoo.training.machine.by_images import settled
from zoo.training.machine.choose import laid_out
from zoo.training.machine.replica import make_replica, with_shared_norms

if TYPE_CHECKING:
    from zoo.records.config import TrainConfig
    from zoo.training.machine.world import World
    from zoo.training.parts import Parts


def set_up(parts: Parts, config: TrainConfig, world: World) -> tuple[TrainState, Plan]:
    """Make the state of a run that has not begun; a saved one is loaded into it afterwards."""
    config = settled(config, parts.chosen)
    # Weights that are divided must lie in order; images may be channels last all the same.
    model = laid_out(parts.backbone.to(parts.chosen.device), "nchw" if config.fsdp else parts.chosen.layout)
    check_classifier(model, config)
    check_growth(model, make_growth(config, parts.preprocess.size))
    steps = config.epoch_count * len(parts.loaders.train)
    model = with_rounding(model, steps) if config.qat else model
    model = with_shared_norms(model, parts.chosen.device) if config.sync_batchnorm else model
    ema = make_average(model, config.ema_decay, max(1, steps // config.accumulate), divided=config.fsdp)
    replica = make_replica(model, ema.module if ema else None, config, world, parts.chosen.device)
    optimizer = make_optimizer(model, config)
    state = make_state(replica, optimizer, ema, fp16=parts.chosen.precision == "fp16")
    task = make_task(
        len(parts.data.classes),
        multi_label=parts.data.multi_label,
        smoothing=config.label_smoothing,
        weights=torch.tensor(list(parts.weights.values())) if parts.weights else None,
        loss=config.loss,
        monitor=config.monitor,
    )
    plan = make_plan(config, parts.chosen, parts.preprocess, optimizer, len(parts.loaders.train), task)
    distillation = make_distillation(
        parts.teacher, config, parts.chosen, parts.preprocess, multi_label=parts.data.multi_label
    )
    fitted = begins_fitted(model, config, len(parts.loaders.train.split))
    return state, replace(plan, distillation=distillation, world=world, seed=config.seed, begins_fitted=fitted)
