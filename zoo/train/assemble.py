"""What moves and what it moves by, made of a run's parts: the model in its place, the state, the plan."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from zoo.train.learn.distill import make_distillation
from zoo.train.learn.freeze import check_classifier
from zoo.train.learn.optimizer import make_optimizer
from zoo.train.learn.plan import Plan, make_plan
from zoo.train.learn.probe import begins_fitted
from zoo.train.learn.qat import with_rounding
from zoo.train.learn.resize import check_growth, make_growth
from zoo.train.learn.state import TrainState, make_average, make_state
from zoo.train.learn.task import make_task
from zoo.train.machine.by_images import settled
from zoo.train.machine.choose import laid_out
from zoo.train.machine.replica import make_replica, with_shared_norms

if TYPE_CHECKING:
    from zoo.runs.config import TrainConfig
    from zoo.train.machine.world import World
    from zoo.train.parts import Parts


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
    ema = make_average(model, config.ema_decay, max(1, steps // config.accumulate))
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
