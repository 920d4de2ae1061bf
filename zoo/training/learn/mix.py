"""Mixup and CutMix on a batch, by timm; what is drawn depends on seed, epoch and step alone, so a resume repeats it.

Methods: Zhang et al., "mixup: Beyond Empirical Risk Minimization" (ICLR 2018, arXiv 1710.09412); Yun et al., "CutMix:
Regularization Strategy to Train Strong Classifiers with Localizable Features" (ICCV 2019, arXiv 1905.04899).
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import EnvironmentBroken, OptionInvalid

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from timm.data import Mixup

    from zoo.records.config import TrainConfig
    from zoo.training.learn.task import Task


@dataclass(frozen=True, kw_only=True)
class Mixer:
    """Mixes each image of a batch with the one at the same place from its end."""

    mixup: Mixup
    seed: int

    def __call__(
        self, images: torch.Tensor, target: torch.Tensor, epoch: int, step: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mix a batch; the images in place.

        Args:
            images: float32 [n, 3, H, W], normalised; n even.
            target: int64 [n], or float32 [n, C].
            epoch: Whole epochs behind us.
            step: Steps done inside this epoch.

        Returns:
            The images, and the target as float32 [n, C] in 0..1: each image's labels by their share of the picture.
        """
        with numpy_seeded(self.seed, epoch, step):
            mixed: tuple[torch.Tensor, torch.Tensor] = self.mixup(images, target)
        return mixed


def make_mixer(config: TrainConfig, task: Task) -> Mixer | None:
    """Return what `mixup` and `cutmix` ask for, if they do; each batch gets one of the two where both are on.

    Raises:
        EnvironmentBroken: several labels an image, and a timm that cannot mix them yet.
    """
    if not mixes(config):
        return None
    from timm.data import Mixup

    if task.multi_label and "multi_label" not in inspect.signature(Mixup).parameters:
        found = importlib.metadata.version("timm")
        raise EnvironmentBroken(
            f"--mixup and --cutmix of several labels an image need timm 1.0.31, and this is {found}; upgrade timm, or "
            "leave them out"
        )
    several = {"multi_label": True} if task.multi_label else {}
    mixup = Mixup(  # type: ignore[no-untyped-call]
        mixup_alpha=config.mixup,
        cutmix_alpha=config.cutmix,
        prob=config.mix_prob,
        # The loss smooths, and once is enough.
        label_smoothing=0.0,
        num_classes=task.classes,
        **several,
    )
    return Mixer(mixup=mixup, seed=config.seed)


def refuse_odd_batches(config: TrainConfig, batch_size: int | str) -> None:
    """Raise OptionInvalid if images are to be mixed in pairs and the batch has one left over; auto is even."""
    if mixes(config) and isinstance(batch_size, int) and batch_size % 2:
        raise OptionInvalid(
            f"--mixup and --cutmix mix a batch's images in pairs, and {batch_size} is odd; "
            f"use --batch-size {batch_size - 1}"
        )


@contextlib.contextmanager
def numpy_seeded(*key: int) -> Iterator[None]:
    """Seed numpy's global random state, which timm draws from, with `key`, and leave it as it was."""
    before = np.random.get_state()
    np.random.seed(list(key))
    try:
        yield
    finally:
        np.random.set_state(before)


def mixes(config: TrainConfig) -> bool:
    """Tell whether images are mixed in pairs."""
    return bool(config.mixup or config.cutmix)
