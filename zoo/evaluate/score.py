"""Run any predictor over a split, exactly as a device would."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from zoo.data.loader import evaluation_batches

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from zoo.plugin import Predictor, Split
    from zoo.preprocess import Preprocess


def eager(model: torch.nn.Module, *, device: str = "cpu") -> Predictor:
    """Make a predictor of the model that ships: fp32, in PyTorch."""
    import torch

    model = model.to(device)

    def predict(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            # A copy, since torch may not share memory that numpy holds read-only.
            probabilities: np.ndarray = model(torch.from_numpy(np.array(images)).to(device)).cpu().numpy()
        return probabilities

    return predict


def probabilities(
    predict: Predictor,
    split: Split,
    preprocess: Preprocess,
    *,
    workers: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """Return float32 [N, C] for every image of a split, in order."""
    found = []
    done = 0
    for images, _ in evaluation_batches(split, preprocess, workers=workers):
        found.append(predict(images))
        done += len(images)
        progress(done, len(split))
    return np.concatenate(found)
