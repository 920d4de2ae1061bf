"""Backbones that break one promise each, named after what is wrong, and a good one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

CFG = {"input_size": (3, 32, 32), "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}


class good(nn.Module):
    """A convolution and a head.

    Args:
        width: Channels.
    """

    def __init__(self, num_classes: int, *, width: int = 8) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, width, 3, stride=2)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, num_classes)
        self.pretrained_cfg: Any = CFG

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.features(x).mean((2, 3)))
        return logits

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.norm(self.convolution(x)))


# Its logits.


class one_class_too_many(good):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes + 1)


class one_image_loses_its_batch(good):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if len(x) == 2 else super().forward(x).squeeze()


class answers_in_float64(good):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).double()


class answers_with_nan(good):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) / 0.0 * 0.0


class always_seven_classes(good):
    def __init__(self, num_classes: int) -> None:
        super().__init__(7)


class at_least_three_classes(good):
    def __init__(self, num_classes: int) -> None:
        super().__init__(max(num_classes, 3))


class ends_in_a_softmax(good):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).softmax(1)


class ends_in_a_log_softmax(good):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).log_softmax(1)


class ends_in_a_sigmoid(good):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).sigmoid()


class norms_by_the_batch(good):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.norm = nn.BatchNorm2d(8, track_running_stats=False)


class subtracts_the_mean_of_the_batch(good):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x - x.mean())


class drops_out_in_eval_mode(good):
    def features(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(super().features(x), training=True)


class counts_its_calls(good):
    calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return super().forward(x) + self.calls


class scales_its_images_in_place(good):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.mul_(2))


class clamps_its_images_in_place(good):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(nn.functional.relu(x, inplace=True))


class views_its_images(good):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.view(-1).view(x.shape))


class reads_its_images_as_they_lie(good):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _, channels, height, width = x.shape
        return super().forward(x.as_strided(x.shape, (channels * height * width, height * width, width, 1)))


# Its weights.


class a_parameter_that_nobody_uses(good):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.spare = nn.Linear(3, 3)


class cuts_off_its_features(good):
    def features(self, x: torch.Tensor) -> torch.Tensor:
        return super().features(x).detach()


class everything_is_frozen(good):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.requires_grad_(False)


class never_wants_gradients(good):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return super().forward(x)


class draws_weights_from_numpy(good):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.head.bias.data = torch.from_numpy(np.random.rand(num_classes).astype(np.float32))


class draws_weights_from_the_system(good):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.head.bias.data[0] = os.urandom(1)[0] * 256 + os.urandom(1)[0]


class seeds_torch_itself(good):
    def __init__(self, num_classes: int) -> None:
        torch.manual_seed(42)
        super().__init__(num_classes)


class a_random_table_is_not_saved(good):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.register_buffer("table", torch.from_numpy(np.random.rand(num_classes)).float(), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + self.get_buffer("table")


class leaves_a_file_when_built(good):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        Path("weights.cache").write_bytes(b"weights")


class holds_a_lambda(good):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.activation = lambda x: x


class a_copy_has_other_weights(good):
    def __deepcopy__(self, memory: Any) -> Any:
        return type(self)(self.head.out_features).eval()


class does_not_tell_its_pixels(good):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        del self.pretrained_cfg


class its_mean_is_on_the_scale_255(good):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.pretrained_cfg = {**CFG, "mean": (124, 116, 104), "std": (58, 57, 57)}


class its_std_is_zero(good):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.pretrained_cfg = {**CFG, "std": (0.0, 0.0, 0.0)}


class its_mean_is_one_number(good):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.pretrained_cfg = {**CFG, "mean": (0.5,)}


class its_size_comes_channels_last(good):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.pretrained_cfg = {**CFG, "input_size": (32, 32.0, 3)}


class branches_on_its_pixels(good):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if x.mean() > 0.5 else super().forward(-x)


class its_batch_is_fixed(good):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([super(its_batch_is_fixed, self).forward(image[None]) for image in x])


class answers_otherwise_as_a_graph(good):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * (2.0 if torch.compiler.is_exporting() else 1.0)


class draws_in_eval_mode(good):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + 0 * torch.rand(1)


class seeds_in_eval_mode(good):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(0)
        return super().forward(x)


BROKEN = {
    "test_it_maps_any_batch_to_logits": (
        "one_class_too_many",
        "one_image_loses_its_batch",
        "answers_in_float64",
        "answers_with_nan",
    ),
    "test_any_number_of_classes_can_be_asked_for": ("always_seven_classes", "at_least_three_classes"),
    "test_logits_are_not_probabilities": ("ends_in_a_softmax", "ends_in_a_log_softmax", "ends_in_a_sigmoid"),
    "test_images_of_a_batch_do_not_mix": ("norms_by_the_batch", "subtracts_the_mean_of_the_batch"),
    "test_eval_mode_is_deterministic": ("drops_out_in_eval_mode", "counts_its_calls"),
    "test_the_images_are_left_as_they_were": ("scales_its_images_in_place", "clamps_its_images_in_place"),
    "test_memory_layout_does_not_matter": ("views_its_images", "reads_its_images_as_they_lie"),
    "test_gradients_reach_every_parameter": (
        "a_parameter_that_nobody_uses",
        "cuts_off_its_features",
        "everything_is_frozen",
        "never_wants_gradients",
    ),
    "test_the_seed_decides_the_weights": (
        "draws_weights_from_numpy",
        "draws_weights_from_the_system",
        "seeds_torch_itself",
    ),
    "test_its_weights_mean_the_same_in_a_new_process": (
        "a_random_table_is_not_saved",
        "leaves_a_file_when_built",
    ),
    "test_it_survives_copying_and_pickling": ("holds_a_lambda", "a_copy_has_other_weights"),
    "test_it_tells_how_it_likes_its_pixels": (
        "does_not_tell_its_pixels",
        "its_mean_is_on_the_scale_255",
        "its_std_is_zero",
        "its_mean_is_one_number",
        "its_size_comes_channels_last",
    ),
    "test_it_can_be_exported": ("branches_on_its_pixels", "its_batch_is_fixed", "answers_otherwise_as_a_graph"),
    "test_using_it_leaves_the_process_as_it_was": ("draws_in_eval_mode", "seeds_in_eval_mode"),
}
"""Promise -> what breaks it."""
FAULTS = {fault: promise for promise, faults in BROKEN.items() for fault in faults}
"""Fault -> the test that must fail for it."""

RAISES: dict[str, tuple[str, ...]] = {
    "one_class_too_many": ("ContractBroken",),
    "always_seven_classes": ("ContractBroken",),
    "at_least_three_classes": ("ContractBroken",),
    "views_its_images": ("RuntimeError",),
    "holds_a_lambda": ("PicklingError", "AttributeError"),
    "branches_on_its_pixels": ("UserError", "GuardOnDataDependentSymNode"),
    "its_batch_is_fixed": ("UserError", "ConstraintViolationError", "ValueError"),
}
"""Fault -> the errors by which it shows, where it is not an assertion of the kit's."""
SOURCES: dict[str, str] = {}
