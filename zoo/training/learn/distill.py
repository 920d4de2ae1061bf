"""Knowledge distillation in a step: what a teacher answers to the student's batch, and the loss that learns from it.

Methods: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015, arXiv 1503.02531). Teacher and
student see the very same pixels, as in Beyer et al., "Knowledge distillation: A good teacher is patient and
consistent" (CVPR 2022, arXiv 2106.05237). timm's `LogitDistillationTask` wants a training loop of its own, one label an
image and equal sizes, and older versions of timm lack it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from zoo.training.machine.choose import laid_out

if TYPE_CHECKING:
    from zoo.contracts.preprocess import Preprocess
    from zoo.records.config import TrainConfig
    from zoo.training.learn.teacher import Teacher
    from zoo.training.machine.choose import Chosen


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """A teacher that is asked in every step; its weights and statistics never move."""

    backbone: torch.nn.Module
    """In evaluation mode, on the device."""
    size: tuple[int, int]
    """Height and width of its input."""
    scale: torch.Tensor
    """float32 [3, 1, 1]: with `shift`, what makes the student's normalised pixels the teacher's."""
    shift: torch.Tensor
    share: float
    """Of the teacher in the loss, in 0..1."""
    temperature: float
    multi_label: bool

    @torch.no_grad()
    def answers(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the teacher's logits, float32 [n, C], of a batch float32 [n, 3, H, W] as the student gets it."""
        if tuple(pixels.shape[2:]) != self.size:
            pixels = functional.interpolate(pixels, self.size, mode="bilinear", antialias=True)
        logits: torch.Tensor = self.backbone(pixels * self.scale + self.shift)
        return logits.float()

    def loss(self, task_loss: torch.Tensor, logits: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        """Blend the loss against the labels with the distance from the teacher.

        The square of the temperature keeps the gradients of the second as large as they are at temperature 1.
        """
        distance = divergence(logits.float() / self.temperature, answers / self.temperature, self.multi_label)
        return (1 - self.share) * task_loss + self.share * self.temperature**2 * distance


def divergence(student: torch.Tensor, teacher: torch.Tensor, multi_label: bool) -> torch.Tensor:
    """Return the mean Kullback-Leibler divergence of the student's probabilities from the teacher's.

    Args:
        student: Logits float32 [n, C].
        teacher: The same, without a gradient.
        multi_label: Whether each label is a question of its own; the mean is then over labels too, as the task's is.
    """
    if not multi_label:
        of_student, of_teacher = student.log_softmax(1), teacher.log_softmax(1)
        return functional.kl_div(of_student, of_teacher, reduction="batchmean", log_target=True)
    wanted = teacher.sigmoid()
    least = functional.binary_cross_entropy_with_logits(teacher, wanted)
    return functional.binary_cross_entropy_with_logits(student, wanted) - least


def make_distillation(
    teacher: Teacher | None, config: TrainConfig, chosen: Chosen, preprocess: Preprocess, *, multi_label: bool
) -> Distillation | None:
    """Return what asks the teacher, if there is one; `preprocess` is the student's."""
    if teacher is None:
        return None

    def colour(values: tuple[float, float, float]) -> torch.Tensor:
        return torch.tensor(values, device=chosen.device).view(3, 1, 1)

    own = teacher.preprocess
    return Distillation(
        backbone=laid_out(teacher.backbone, chosen.layout),
        size=own.size,
        scale=colour(preprocess.std) / colour(own.std),
        shift=(colour(preprocess.mean) - colour(own.mean)) / colour(own.std),
        share=config.distill_share,
        temperature=config.distill_temperature,
        multi_label=multi_label,
    )
