"""Any predictor's probabilities on a whole split, exactly as a device would give them; judges nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from zoo.data.loader import evaluation_batches

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from zoo.contracts.plugins import Predictor, Split
    from zoo.contracts.preprocess import Preprocess


class Eager:
    """The model that ships as a predictor: fp32, in PyTorch."""

    def __init__(self, model: torch.nn.Module, device: str) -> None:
        self._model = model.to(device)
        self._device = device

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self._outputs(images)[0]

    def with_unknown(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return probabilities, float32 [N, C], and which images are unknown, bool [N]; for models that tell it."""
        probabilities, unknown = self._outputs(images)
        return probabilities, unknown

    def _outputs(self, images: np.ndarray) -> list[np.ndarray]:
        import torch

        with torch.inference_mode():
            # A copy, since torch may not share memory that numpy holds read-only.
            given = self._model(torch.from_numpy(np.array(images)).to(self._device))
        return [output.cpu().numpy() for output in (given if isinstance(given, tuple) else (given,))]


def eager(model: torch.nn.Module, *, device: str = "cpu") -> Eager:
    """Make a predictor of the model that ships: fp32, in PyTorch."""
    return Eager(model, device)


def probabilities(
    predict: Predictor,
    split: Split,
    preprocess: Preprocess | None,
    *,
    workers: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """Return float32 [N, C] for every image of a split, in order; `preprocess` as `evaluation_batches` takes it."""
    found = []
    done = 0
    for images, _ in evaluation_batches(split, preprocess, workers=workers):
        found.append(predict(images))
        done += len(images)
        progress(done, len(split))
    return np.concatenate(found)
