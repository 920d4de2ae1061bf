"""The digits dataset: its facts never change, for runs have frozen them."""

from pathlib import Path

import numpy as np
import pytest

from zoo.plugin import Dataset
from zoo_plugins.digits import digits


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return digits(tmp_path_factory.mktemp("digits"))


def test_there_are_1797_images_of_8_by_8_pixels_all_in_train(dataset: Dataset) -> None:
    assert list(dataset.splits) == ["train"]
    train = dataset.splits["train"]
    assert len(train) == len(train.labels) == 1797
    assert {(image.dtype, image.shape) for image in train.images if isinstance(image, np.ndarray)} == {
        (np.dtype(np.uint8), (8, 8, 3))
    }


def test_the_classes_are_the_digits_in_order(dataset: Dataset) -> None:
    labels = dataset.splits["train"].labels
    assert dataset.classes == tuple("0123456789")
    assert labels.dtype == np.int64
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_sixteen_grey_levels_are_spread_over_the_whole_range(dataset: Dataset) -> None:
    pixels = np.stack([np.asarray(image) for image in dataset.splits["train"].images])
    assert sorted(set(pixels.ravel().tolist())) == [round(level * 255 / 16) for level in range(17)]
    assert (pixels[..., 0] == pixels[..., 1]).all()
    assert (pixels[..., 0] == pixels[..., 2]).all()


def test_it_says_whose_the_data_is(dataset: Dataset) -> None:
    assert dataset.license == "CC-BY-4.0"
    assert dataset.homepage.startswith("https://")
    assert "Alpaydin" in dataset.citation


def test_calling_it_twice_gives_the_same_and_leaves_nothing_on_disk(dataset: Dataset, tmp_path: Path) -> None:
    again = digits(tmp_path / "missing")
    assert np.array_equal(again.splits["train"].labels, dataset.splits["train"].labels)
    for one, other in zip(again.splits["train"].images, dataset.splits["train"].images, strict=True):
        assert np.array_equal(np.asarray(one), np.asarray(other))
    assert not list(tmp_path.iterdir())
