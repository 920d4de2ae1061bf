"""Cut splits: stratified, from the seed and the content alone, the same picture never in two of them."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.data.splits import cut
from zoo.errors import DatasetInvalid

LABELS = np.repeat(np.arange(4), [50, 100, 30, 21])
HASHES = [f"{i:064x}" for i in range(len(LABELS))]
CLASSES = ["a", "b", "c", "d"]


def parts(seed: int = 0, hashes: list[str] = HASHES, labels: np.ndarray = LABELS) -> dict[str, np.ndarray]:
    return cut(labels, hashes, CLASSES, ["val", "test"], seed)


def test_every_image_is_in_exactly_one_split() -> None:
    assert sorted(np.concatenate(list(parts().values())).tolist()) == list(range(len(LABELS)))


def test_every_class_gives_a_tenth_to_each() -> None:
    for split in ("val", "test"):
        assert np.bincount(LABELS[parts()[split]]).tolist() == [5, 10, 3, 2]


def test_the_seed_decides() -> None:
    assert all(np.array_equal(parts(1)[name], parts(1)[name]) for name in parts())
    assert not np.array_equal(parts(1)["val"], parts(2)["val"])


def test_the_order_of_the_files_does_not_matter() -> None:
    order = np.random.default_rng(0).permutation(len(LABELS))
    shuffled = parts(hashes=[HASHES[i] for i in order], labels=LABELS[order])
    assert set(order[shuffled["test"]].tolist()) == set(parts()["test"].tolist())


def test_equal_pictures_stay_together() -> None:
    hashes = [f"{i // 7:064x}" for i in range(len(LABELS))]
    found = parts(hashes=hashes)
    for label in range(4):
        homes = [{hashes[i] for i in part if LABELS[i] == label} for part in found.values()]
        assert sum(map(len, homes)) == len(set.union(*homes))


def test_a_class_too_small_is_named() -> None:
    with pytest.raises(DatasetInvalid, match="'d'"):
        cut(np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3]), HASHES[:11], CLASSES, ["val", "test"], 0)


def test_nothing_missing_keeps_everything_in_train() -> None:
    assert cut(LABELS, HASHES, CLASSES, [], 0)["train"].tolist() == list(range(len(LABELS)))
