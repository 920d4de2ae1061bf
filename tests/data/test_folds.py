"""Folds: each image validates exactly one, equal pictures stay together, classes are spread, order does not matter."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from zoo.catalogue.made.dataset import open_dataset
from zoo.contracts.preprocess import Preprocess
from zoo.data.cache import Cache
from zoo.data.folds import Fold, deal
from zoo.data.prepared import Recorded, Subset, prepare
from zoo.errors import DatasetInvalid, OptionInvalid
from zoo.plugin import Dataset, Split

from ..conftest import make_pictures

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.catalogue import Catalogue
    from zoo.data.prepared import PreparedData
    from zoo.data.splits import Rule

CLASSES = ["a", "b", "c", "d"]
LABELS = np.repeat(np.arange(4), [200, 100, 31, 7])
KEYS = [f"{i:064x}" for i in range(len(LABELS))]


def places(keys: list[str], home: np.ndarray) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for key, fold in zip(keys, home.tolist(), strict=True):
        found.setdefault(key, set()).add(fold)
    return found


def test_each_class_is_spread_evenly() -> None:
    home = deal(LABELS, KEYS, CLASSES, 5, 0)
    assert set(home.tolist()) == {1, 2, 3, 4, 5}
    for label in range(4):
        counts = np.bincount(home[label == LABELS], minlength=6)[1:]
        assert counts.max() - counts.min() <= 1, (label, counts)
    sizes = np.bincount(home)[1:]
    assert sizes.max() - sizes.min() <= 1


def test_equal_pictures_stay_together_and_folds_stay_alike() -> None:
    keys = [f"{i % 170:064x}" for i in range(len(LABELS))]
    home = deal(LABELS, keys, CLASSES, 5, 0)
    assert all(len(found) == 1 for found in places(keys, home).values())
    sizes = np.bincount(home)[1:]
    assert sizes.max() - sizes.min() <= 4


def test_neither_order_nor_numbering_of_the_files_matters() -> None:
    order = np.random.default_rng(0).permutation(len(LABELS))
    home = deal(LABELS, KEYS, CLASSES, 5, 3)
    shuffled = deal(LABELS[order], [KEYS[i] for i in order], CLASSES, 5, 3)
    assert np.array_equal(shuffled, home[order])


def test_the_seed_decides() -> None:
    assert np.array_equal(deal(LABELS, KEYS, CLASSES, 5, 1), deal(LABELS, KEYS, CLASSES, 5, 1))
    assert not np.array_equal(deal(LABELS, KEYS, CLASSES, 5, 1), deal(LABELS, KEYS, CLASSES, 5, 2))


def test_the_places_never_change() -> None:
    """Runs are evaluated on their fold years later; whoever changes this breaks them."""
    assert deal(LABELS, KEYS, CLASSES, 5, 0)[-12:].tolist() == [2, 2, 4, 2, 1, 5, 1, 2, 2, 1, 3, 4]


def test_labels_that_come_together_are_spread_too() -> None:
    labels = (np.random.default_rng(0).random((400, 3)) < (0.5, 0.3, 0.05)).astype(np.uint8)
    home = deal(labels, [f"{i:064x}" for i in range(400)], ["x", "y", "z"], 4, 0)
    for label in range(3):
        counts = np.bincount(home[labels[:, label] == 1], minlength=5)[1:]
        assert counts.max() - counts.min() <= 6, (label, counts)
    bare = np.bincount(home[labels.sum(1) == 0], minlength=5)[1:]
    assert bare.min() > 0
    sizes = np.bincount(home)[1:]
    assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize("copies", [1, 20])
def test_a_class_too_small_is_one_line(copies: int) -> None:
    labels = np.concatenate([LABELS, np.full(4 * copies, 4)])
    keys = KEYS + [f"{1000 + i % 4:064x}" for i in range(4 * copies)]
    with pytest.raises(DatasetInvalid, match=r"class 'e' has 4 different images .* too few for 5 folds"):
        deal(labels, keys, [*CLASSES, "e"], 5, 0)
    assert np.bincount(deal(labels, keys, [*CLASSES, "e"], 4, 0)[labels == 4])[1:].tolist() == [copies] * 4


def test_fewer_images_than_folds_is_one_line() -> None:
    with pytest.raises(DatasetInvalid, match="there are 3 different images"):
        deal(np.eye(3, dtype=np.uint8), KEYS[:3], CLASSES[:3], 4, 0)


def test_folds_without_saying_which_is_one_line(catalogue: Catalogue) -> None:
    from zoo.records.layers import resolve_options

    def config(**given: Any) -> Any:
        return resolve_options(catalogue, {"model": "tiny", "dataset": "digits", **given}, None, None).config

    assert config().chosen_fold is None
    assert config(folds=3, fold=2).chosen_fold == Fold(number=2, of=3)
    with pytest.raises(OptionInvalid, match="say which"):
        _ = config(folds=3).chosen_fold


def pictures(count: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (6, 6, 3), np.uint8) for _ in range(count)]


def fold(dataset: Dataset, number: int, of: int = 3, rule: Rule | None = None) -> PreparedData:
    recorded = Recorded(rule=rule, fold=Fold(number=number, of=of) if number else None)
    return prepare(dataset, "x", seed=0, recorded=recorded, max_broken=0.1)


def content(split: Split) -> Counter[bytes]:
    return Counter(split.images[i].tobytes() for i in range(len(split)))  # type: ignore[union-attr]


def test_train_and_val_are_dealt_and_test_stays_as_it_is() -> None:
    images = pictures(120, 0)
    images[60:80] = images[40:60]
    labels = np.arange(120) % 2
    dataset = Dataset(classes=("a", "b"), splits={"train": Split(images=images, labels=labels)})
    usual, found = prepare(dataset, "x", seed=0), [fold(dataset, number) for number in (1, 2, 3)]
    beside_test = content(usual.splits["train"]) + content(usual.splits["val"])
    vals = Counter[bytes]()
    for data in found:
        train, val = content(data.splits["train"]), content(data.splits["val"])
        assert not set(train) & set(val)
        assert train + val == beside_test
        assert content(data.splits["test"]) == content(usual.splits["test"])
        assert data.fingerprint == usual.fingerprint
        vals += val
    assert vals == beside_test
    assert max(beside_test.values()) == 2


def test_a_val_split_of_the_dataset_joins_and_its_test_stays_apart() -> None:
    parts = {
        name: pictures(count, seed) for seed, (name, count) in enumerate({"train": 40, "val": 20, "test": 9}.items())
    }
    splits = {name: Split(images=images, labels=np.arange(len(images)) % 2) for name, images in parts.items()}
    dataset = Dataset(classes=("a", "b"), splits=splits)
    labelled = {image.tobytes(): i % 2 for images in parts.values() for i, image in enumerate(images)}
    vals = Counter[bytes]()
    for number in (1, 2, 3):
        data = fold(dataset, number)
        for split in data.splits.values():
            for i in range(len(split)):
                assert labelled[split.images[i].tobytes()] == split.labels[i]  # type: ignore[union-attr]
        assert content(data.splits["test"]) == content(splits["test"])
        names = {data.splits["val"].images.name(i) for i in range(len(data.splits["val"]))}  # type: ignore[attr-defined]
        assert {name.rpartition(" ")[2] for name in names} == {"train", "val"}
        assert data.without(dict.fromkeys(sorted(names)[:2], "broken")).splits["val"].labels.shape == (len(names) - 2,)
        vals += content(data.splits["val"])
    assert vals == content(splits["train"]) + content(splits["val"])


@pytest.mark.parametrize("rule", ["content", "size"])
def test_files_come_out_the_same_under_other_names(catalogue: Catalogue, tmp_path: Path, rule: Rule) -> None:
    one, other = (make_pictures(tmp_path / name, each=12) for name in ("one", "other"))
    for number, file in enumerate(sorted(other.rglob("*.jpg"))):
        file.rename(file.with_name(f"{(number * 7) % 36:02}-renamed.jpg"))

    def val(folder: Path) -> set[bytes]:
        images = fold(open_dataset(catalogue, str(folder), {}), 2, rule=rule).splits["val"].images
        return {path.read_bytes() for path in images}  # type: ignore[union-attr]

    assert val(one) == val(other)
    assert len(val(one)) > 5


def test_one_cache_serves_all_folds_and_is_never_mixed_up_with_that_of_usual_runs(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    make_pictures(tmp_path / "x" / "train", each=9)
    make_pictures(tmp_path / "x" / "val", each=6)
    (tmp_path / "x" / "train" / "class0" / "000.jpg").write_bytes(b"broken")
    dataset = open_dataset(catalogue, str(tmp_path / "x"), {})
    preprocess = Preprocess(size=(32, 32), mean=(0, 0, 0), std=(1, 1, 1))
    for number in (0, 1, 2, 3):
        data = fold(dataset, number)
        assert isinstance(data.splits["val"].images, Subset)
        stored, fresh = Cache("disk", 1e9, data, preprocess), Cache("ram", 1e9, data, preprocess)
        for kept, made in ((stored.train(), fresh.train()), (stored.val(), fresh.val())):
            assert all(np.array_equal(np.asarray(kept.images[i]), np.asarray(made.images[i])) for i in range(len(made)))
        stored.flush()
    assert len(stored._val) == len(data.splits["train"]) + len(data.splits["val"])
