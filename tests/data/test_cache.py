"""With a cache: the same batches whether an image is kept or not; shared by runs, bounded, and chosen with sense."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from skimage import data as photos

from zoo.contracts.preprocess import Preprocess
from zoo.data.cache import Cache, choose_mode, kept_side, shrink
from zoo.data.decode import to_part
from zoo.data.loader import TrainLoader, evaluation_batches
from zoo.data.prepared import PreparedData, prepare
from zoo.plugin import Dataset, Split

if TYPE_CHECKING:
    from pathlib import Path

ASTRONAUT: np.ndarray = photos.astronaut()  # type: ignore[no-untyped-call]
PREPROCESS = Preprocess(size=(32, 32))


def jpegs(count: int = 24) -> list[bytes]:
    whole, found = Image.fromarray(ASTRONAUT), []
    for number in range(count):
        buffer = io.BytesIO()
        left, top = 9 * number, 5 * number
        whole.crop((left, top, left + 200, top + 150)).save(buffer, "JPEG", quality=90)
        found.append(buffer.getvalue())
    return found


def prepared(seed: int = 0, **changes: Any) -> PreparedData:
    train = Split(images=jpegs(), labels=np.arange(24) % 2)
    return prepare(Dataset(classes=("a", "b"), splits={"train": train}, **changes), "cached", seed=seed)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    return tmp_path


def stream(split: Split, workers: int = 0, epochs: int = 2) -> bytes:
    from zoo_plugins.augmentations import standard

    loader = TrainLoader(
        split=split, augmentation=lambda: standard(32, 32), size=(32, 32), batch_size=4, seed=1, workers=workers
    )
    return b"".join(p.tobytes() + y.tobytes() for epoch in range(epochs) for p, y in loader.epoch(epoch))


def evaluated(split: Split) -> bytes:
    return b"".join(p.tobytes() + y.tobytes() for p, y in evaluation_batches(split, PREPROCESS, batch_size=4))


def opened(mode: Any = "disk", limit: float = 1e9, seed: int = 0) -> Cache:
    return Cache(mode, limit, prepared(seed), PREPROCESS)


def test_batches_do_not_depend_on_what_is_kept(home: Path) -> None:
    first = opened()
    wanted = stream(first.train(), workers=2)
    first.flush()
    assert len(list((home / "cache").rglob("*.npy"))) == 1
    assert stream(opened().train()) == wanted
    for file in (home / "cache").rglob("*.npy"):
        file.unlink()
    half = opened()
    for index in range(0, len(half.train()), 2):
        half.train().images[index]
    half.flush()
    assert stream(opened().train(), workers=1) == wanted
    assert stream(opened(limit=30_000).train()) == wanted
    assert stream(opened("ram").train()) == wanted


def test_nothing_is_decoded_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    def note(image: Any, choose: Any, least: Any) -> np.ndarray:
        seen.append(image)
        return to_part(image, choose, least)

    monkeypatch.setattr("zoo.data.cache.to_part", note)
    first = opened()
    stream(first.train())
    first.flush()
    decoded = len(seen)
    assert 0 < decoded <= len(first.train())
    stream(first.train(), epochs=1)
    stream(opened().train(), epochs=1)
    assert len(seen) == decoded


def test_validation_images_are_the_devices_own_to_the_bit() -> None:
    data = prepared()
    wanted = evaluated(data.splits["val"])
    for _ in range(2):
        cache = opened()
        assert evaluated(cache.val()) == wanted
        cache.flush()


def test_runs_of_other_seeds_share_what_is_kept(home: Path) -> None:
    first = opened(seed=0)
    stream(first.train())
    first.flush()
    wanted = stream(Cache("ram", 1e9, prepared(7), PREPROCESS).train())
    assert stream(opened(seed=7).train()) == wanted
    assert len(list((home / "cache").iterdir())) == 2


def test_kept_images_are_a_little_larger_than_the_input() -> None:
    assert kept_side(Preprocess(size=(224, 224))) == 256
    assert shrink(jpegs(1)[0], 64).shape == (64, 85, 3)
    assert shrink(jpegs(1)[0], 500).shape == (150, 200, 3)


@pytest.mark.parametrize(
    ("asked", "epochs", "limit", "chosen"),
    [
        ("auto", 5, 1e9, "disk"),
        ("auto", 1, 1e9, "off"),
        ("auto", 5, 1e4, "off"),
        ("off", 5, 1e9, "off"),
        ("ram", 1, 1e4, "ram"),
        ("disk", 1, 1e4, "disk"),
    ],
)
def test_auto_keeps_what_fits_and_is_read_again(asked: Any, epochs: int, limit: float, chosen: str) -> None:
    assert choose_mode(asked, prepared(), PREPROCESS, epochs=epochs, limit=limit) == chosen


def test_arrays_are_not_kept_twice() -> None:
    images = [ASTRONAUT[i : i + 40, :40] for i in range(24)]
    train = Split(images=images, labels=np.arange(24) % 2)
    data = prepare(Dataset(classes=("a", "b"), splits={"train": train}), "arrays", seed=0)
    assert choose_mode("auto", data, PREPROCESS, epochs=5, limit=1e9) == "off"
