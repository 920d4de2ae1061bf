"""What an image looks like in four numbers: each moves with what it is named after, and with nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.runtime.statistics import NAMES, image_statistics

NOISE = np.random.default_rng(0).integers(60, 190, (64, 48, 3), np.uint8)


def grey(value: int, size: tuple[int, int] = (8, 8)) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)


def test_plain_pictures_have_plain_numbers() -> None:
    assert image_statistics(grey(0)) == {"brightness": 0, "contrast": 0, "saturation": 0, "sharpness": 0}
    assert image_statistics(grey(255))["brightness"] == pytest.approx(1)
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 255
    assert image_statistics(red)["saturation"] == pytest.approx(1)
    assert image_statistics(red)["brightness"] == pytest.approx(0.299, abs=1e-3)
    board = np.indices((16, 16)).sum(0) % 2 * 255
    assert image_statistics(np.repeat(board[..., None], 3, 2).astype(np.uint8))["sharpness"] == pytest.approx(1)


def test_each_tells_its_own_change() -> None:
    before = image_statistics(NOISE)
    brighter = image_statistics(NOISE + 60)
    assert brighter["brightness"] - before["brightness"] == pytest.approx(60 / 255, abs=1e-3)
    assert brighter["contrast"] == pytest.approx(before["contrast"], abs=1e-3)
    flat = image_statistics((125 + (NOISE.astype(int) - 125) // 2).astype(np.uint8))
    assert flat["contrast"] == pytest.approx(before["contrast"] / 2, rel=0.02)
    blurred = image_statistics(((NOISE[1:].astype(int) + NOISE[:-1]) // 2).astype(np.uint8))
    assert blurred["sharpness"] < 0.85 * before["sharpness"]


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (129, 3), (2000, 1500)])
def test_any_size_has_all_of_them_within_range(size: tuple[int, int]) -> None:
    found = image_statistics(np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8))
    assert tuple(found) == NAMES
    assert all(0 <= value <= 1 for value in found.values())
