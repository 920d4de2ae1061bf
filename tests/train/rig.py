"""A network and its plan, to take single steps with: a run without data and files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.catalogue.made.backbone import BackboneRequest, build_backbone
from zoo.records.layers import resolve_options
from zoo.training.learn.freeze import classifier_of
from zoo.training.learn.loop import train_step
from zoo.training.learn.optimizer import make_optimizer
from zoo.training.learn.plan import make_plan
from zoo.training.learn.state import make_average, make_state
from zoo.training.learn.task import make_task
from zoo.training.machine.choose import choose
from zoo.training.machine.replica import Replica

if TYPE_CHECKING:
    import torch

    from zoo.catalogue import Catalogue
    from zoo.contracts.preprocess import Preprocess
    from zoo.records.config import TrainConfig
    from zoo.training.learn.plan import Plan
    from zoo.training.learn.state import TrainState

CLASSES = 4
SETTINGS = {"dataset": "digits", "device": "cpu", "precision": "fp32", "layout": "nchw", "ema_decay": 0.0, "epochs": 4}
SETTINGS |= {"batchnorm": "batch"}


@dataclass
class Rig:
    """What a step needs."""

    config: TrainConfig
    state: TrainState
    plan: Plan
    preprocess: Preprocess

    @property
    def model(self) -> torch.nn.Module:
        return self.state.model

    def copy_of_weights(self) -> dict[str, torch.Tensor]:
        """Return parameters and statistics as they are now."""
        return {name: value.clone() for name, value in self.model.state_dict().items()}

    def moved(self, since: dict[str, torch.Tensor]) -> set[str]:
        """Name what is not as it was, counters left out."""
        now = self.model.state_dict()
        return {name for name, value in since.items() if value.is_floating_point() and not value.equal(now[name])}

    def classifier(self) -> set[str]:
        """Name the parameters of the classifier."""
        own = {id(parameter) for parameter in classifier_of(self.model).parameters()}
        return {name for name, parameter in self.model.named_parameters() if id(parameter) in own}

    def train(self, *batches: tuple[np.ndarray, np.ndarray]) -> None:
        """Take an epoch of these batches, without its end."""
        self.plan.freezing.begin_epoch(self.model, self.state.epoch)
        for images, labels in batches:
            self.state.count(train_step(self.state, images, labels, self.plan))


def make_rig(catalogue: Catalogue, *, model: str = "test_resnet", steps: int = 2, size: int = 32, **given: Any) -> Rig:
    """Return a network of four classes, always with the same weights, with a plan for `steps` an epoch."""
    import torch

    config = resolve_options(catalogue, {**SETTINGS, "model": model, **given}, None, None).config
    torch.manual_seed(0)
    request = BackboneRequest(num_classes=CLASSES, image_size=size, options=config.all_backbone_options)
    backbone, preprocess = build_backbone(catalogue, catalogue.backbone(model), request)
    optimizer = make_optimizer(backbone, config)
    state = make_state(Replica(backbone), optimizer, make_average(backbone, config.ema_decay))
    task = make_task(CLASSES, multi_label=False, loss=config.loss, smoothing=config.label_smoothing)
    plan = make_plan(config, choose(config), preprocess, optimizer, steps, task)
    return Rig(config, state, plan, preprocess)


def batch(images: int = 8, seed: int = 0, size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Return noise, uint8 [images, size, size, 3], and labels, int64."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (images, size, size, 3), np.uint8), rng.integers(0, CLASSES, images)
