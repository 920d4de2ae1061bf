"""A dataset made ready: contracts checked in words, broken images named, looks remembered, a fingerprint of content."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from zoo.catalogue.made.dataset import _checked, open_dataset
from zoo.data import screen as screening
from zoo.data.decode import to_rgb
from zoo.data.prepared import prepare
from zoo.errors import ContractBroken, DatasetInvalid
from zoo.plugin import Dataset, Split

from ..conftest import make_pictures

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.catalogue import Catalogue
    from zoo.plugin import Image


def arrays(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (6, 6, 3), np.uint8) for _ in range(count)]


def dataset(**changes: Any) -> Dataset:
    train = Split(images=arrays(20), labels=np.arange(20) % 2)
    return replace(Dataset(classes=("a", "b"), splits={"train": train}), **changes)


@pytest.mark.parametrize(
    ("wrong", "clause"),
    [
        (dataset(classes=("a", "a")), "different"),
        (dataset(classes=("a", 3)), "texts"),
        (dataset(splits={}), "'train'"),
        (dataset(splits={"train": Split(images=arrays(3), labels=np.zeros(2, np.int64))}), r"int64 \[3\]"),
        (dataset(splits={"train": Split(images=arrays(3), labels=np.zeros(3, np.int32))}), "int32"),
        (dataset(splits={"train": Split(images=arrays(3), labels=[0, 1, 0])}), "list"),  # type: ignore[arg-type]
        (dataset(splits={"train": Split(images=arrays(3), labels=np.array([0, 1, 2]))}), r"0\.\.1"),
        ({"classes": ("a", "b")}, "dict"),
    ],
)
def test_a_broken_contract_names_its_clause(wrong: Any, clause: str) -> None:
    with pytest.raises(ContractBroken, match=clause):
        _checked(wrong, "dataset 'x'")


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(DatasetInvalid, match="no image"):
        _checked(dataset(splits={"train": Split(images=[], labels=np.zeros(0, np.int64))}), "dataset 'x'")


def test_splits_that_are_there_are_kept() -> None:
    test = Split(images=arrays(4), labels=np.array([0, 1, 0, 1]))
    data = prepare(dataset(splits={"train": dataset().splits["train"], "test": test}), "x", seed=0)
    assert len(data.splits["test"]) == 4
    assert len(data.splits["train"]) + len(data.splits["val"]) == 20


def test_the_fingerprint_follows_content_labels_and_classes() -> None:
    base = prepare(dataset(), "x", seed=0).fingerprint
    assert prepare(dataset(), "another name", seed=1).fingerprint == base
    assert prepare(dataset(classes=("a", "c")), "x", seed=0).fingerprint != base
    images = arrays(20)
    images[3] = images[3] ^ 1
    changed = Split(images=images, labels=np.arange(20) % 2)
    assert prepare(dataset(splits={"train": changed}), "x", seed=0).fingerprint != base


def test_files_are_not_opened_again(catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_pictures(tmp_path / "images", each=5)
    opened: list[object] = []

    def note(image: Image) -> np.ndarray:
        opened.append(image)
        return to_rgb(image)

    monkeypatch.setattr(screening, "to_rgb", note)
    first = prepare(open_dataset(catalogue, str(folder), {}), str(folder), seed=0)
    assert len(opened) == 15
    second = prepare(open_dataset(catalogue, str(folder), {}), str(folder), seed=0)
    assert len(opened) == 15
    assert first.fingerprint == second.fingerprint
    make_pictures(tmp_path / "other", each=1)
    (folder / "class0" / "000.jpg").write_bytes((tmp_path / "other" / "class1" / "000.jpg").read_bytes())
    assert prepare(open_dataset(catalogue, str(folder), {}), str(folder), seed=0).fingerprint != first.fingerprint
    assert len(opened) == 16


def test_a_broken_memory_is_no_obstacle(catalogue: Catalogue, tmp_path: Path, home: Path) -> None:
    folder = make_pictures(tmp_path / "images", each=5)
    prepare(open_dataset(catalogue, str(folder), {}), str(folder), seed=0)
    for file in (home / "screened").iterdir():
        file.write_text("[1, 2")
    assert len(prepare(open_dataset(catalogue, str(folder), {}), str(folder), seed=0).splits["train"]) == 9
