"""Cut splits: from the seed and the content alone, the same picture never in two of them, nothing moved by others."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.data.splits import cut, cut_by_rank
from zoo.errors import DatasetInvalid

LABELS = np.repeat(np.arange(4), [500, 1000, 300, 210])
KEYS = [f"{i:064x}" for i in range(len(LABELS))]
CLASSES = ["a", "b", "c", "d"]


def parts(seed: int = 0, keys: list[str] = KEYS, labels: np.ndarray = LABELS) -> dict[str, np.ndarray]:
    return cut(labels, keys, CLASSES, ["val", "test"], seed)


def homes(found: dict[str, np.ndarray], keys: list[str]) -> dict[str, str]:
    return {keys[i]: split for split, indices in found.items() for i in indices.tolist()}


def test_every_image_is_in_exactly_one_split() -> None:
    assert sorted(np.concatenate(list(parts().values())).tolist()) == list(range(len(LABELS)))


def test_every_class_gives_about_a_tenth_to_each() -> None:
    for split in ("val", "test"):
        shares = np.bincount(LABELS[parts()[split]]) / np.bincount(LABELS)
        assert (abs(shares - 0.1) < 0.04).all(), shares


def test_the_seed_decides() -> None:
    assert all(np.array_equal(parts(1)[name], parts(1)[name]) for name in parts())
    assert not np.array_equal(parts(1)["val"], parts(2)["val"])


def test_the_order_of_the_files_does_not_matter() -> None:
    order = np.random.default_rng(0).permutation(len(LABELS))
    shuffled = parts(keys=[KEYS[i] for i in order], labels=LABELS[order])
    assert set(order[shuffled["test"]].tolist()) == set(parts()["test"].tolist())


def test_images_that_come_or_go_move_no_other() -> None:
    before = homes(parts(), KEYS)
    fewer = [i for i in range(len(LABELS)) if i % 3]
    after = homes(parts(keys=[KEYS[i] for i in fewer], labels=LABELS[fewer]), [KEYS[i] for i in fewer])
    assert all(before[key] == split for key, split in after.items())


def test_equal_pictures_stay_together_even_in_different_classes() -> None:
    keys = [f"{i % 700:064x}" for i in range(len(LABELS))]
    places: dict[str, set[str]] = {}
    for split, indices in parts(keys=keys).items():
        for i in indices.tolist():
            places.setdefault(keys[i], set()).add(split)
    assert len(places) == 700
    assert all(len(found) == 1 for found in places.values())


def test_every_class_is_in_every_split_even_if_it_is_small() -> None:
    labels = np.repeat(np.arange(20), 4)
    for seed in range(10):
        found = cut(labels, KEYS[: len(labels)], [str(i) for i in range(20)], ["val", "test"], seed)
        for split in ("train", "val", "test"):
            assert np.bincount(labels[found[split]], minlength=20).min() >= 1, (seed, split)


def test_one_picture_many_times_goes_to_train() -> None:
    for seed in range(20):
        found = cut(np.zeros(9, np.int64), ["same"] * 9, ["a"], ["val", "test"], seed)
        assert len(found["train"]) == 9


def test_images_with_several_labels_are_cut_too() -> None:
    labels = np.random.default_rng(0).integers(0, 2, (400, 3), np.uint8)
    found = cut(labels, KEYS[:400], ["a", "b", "c"], ["val", "test"], 0)
    assert sorted(np.concatenate(list(found.values())).tolist()) == list(range(400))
    assert all(labels[indices].any(0).all() for indices in found.values())


@pytest.mark.parametrize("way", [cut, cut_by_rank])
def test_a_class_too_small_is_named(way: object) -> None:
    with pytest.raises(DatasetInvalid, match="'d'"):
        way(np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3]), KEYS[:11], CLASSES, ["val", "test"], 0)  # type: ignore[operator]


def test_nothing_missing_keeps_everything_in_train() -> None:
    assert cut(LABELS, KEYS, CLASSES, [], 0)["train"].tolist() == list(range(len(LABELS)))


def test_runs_that_were_cut_by_rank_get_their_splits_again() -> None:
    found = cut_by_rank(LABELS, KEYS, CLASSES, ["val", "test"], 0)
    for split in ("val", "test"):
        assert np.bincount(LABELS[found[split]]).tolist() == [50, 100, 30, 21]
    assert found["val"][:5].tolist() == [10, 19, 29, 57, 61]
