"""The shipped contracts, and what is special about textures."""

from __future__ import annotations

import hashlib
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from zoo.plugin import Dataset, DatasetInvalid, OptionInvalid, Split
from zoo.testing import AugmentationContract, BackboneContract, DatasetContract

from zoo_plugin_textures import dataset as module
from zoo_plugin_textures.augmentation import turn_and_flip
from zoo_plugin_textures.backbone import texture_net
from zoo_plugin_textures.dataset import TEXTURES, textures


class TestTextures(DatasetContract):
    name = "textures"


class TestTurnAndFlip(AugmentationContract):
    name = "turn-and-flip"


class TestTextureNet(BackboneContract):
    name = "texture-net"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return textures(tmp_path_factory.mktemp("textures"))


def files_of(split: Split) -> list[Path]:
    return [file for file in split.images if isinstance(file, Path)]


def read(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image)


def pixels_of(dataset: Dataset, split: str, name: str) -> np.ndarray:
    wanted = dataset.splits[split].labels == dataset.classes.index(name)
    files = [file for file, chosen in zip(files_of(dataset.splits[split]), wanted, strict=True) if chosen]
    return np.stack([read(file) for file in files])


def state_of(folder: Path) -> dict[str, tuple[int, str]]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {
        str(f.relative_to(folder)): (f.stat().st_mtime_ns, hashlib.sha256(f.read_bytes()).hexdigest()) for f in files
    }


@pytest.mark.parametrize("name", TEXTURES)
def test_the_splits_share_no_region_of_a_picture(name: str) -> None:
    texture = TEXTURES[name]
    seen = np.zeros((1500, 1500), int)
    for box in (box for boxes in texture.parts.values() for box in boxes):
        seen[box.top : box.bottom, box.left : box.right] += 1
    assert seen.max() == 1


@pytest.mark.parametrize("name", TEXTURES)
def test_every_patch_is_found_in_its_splits_own_part_of_the_picture(dataset: Dataset, name: str) -> None:
    picture = np.asarray(module._picture(TEXTURES[name]))
    for split, boxes in TEXTURES[name].parts.items():
        corners = np.concatenate([box.corners(64) for box in boxes])
        x, y = corners.T
        for patch in pixels_of(dataset, split, name):
            alike = (picture[y, x] == patch[0, 0]) & (picture[y + 63, x + 63] == patch[-1, -1])
            likely = corners[alike.all(axis=-1)]
            assert any(np.array_equal(picture[b : b + 64, a : a + 64], patch) for a, b in likely)


def test_each_class_has_a_tenth_for_val_a_tenth_for_test_and_the_rest_for_train(tmp_path: Path) -> None:
    made = textures(tmp_path, size=8, count=25)
    counts = {split: np.bincount(part.labels).tolist() for split, part in made.splits.items()}
    assert counts == {"train": [21] * 6, "val": [2] * 6, "test": [2] * 6}
    assert all(part.labels.dtype == np.int64 for part in made.splits.values())


def test_no_patch_is_there_twice(dataset: Dataset) -> None:
    files = [file for part in dataset.splits.values() for file in files_of(part)]
    assert len({read(file).tobytes() for file in files}) == len(files) == 600


def test_patches_look_like_their_class(dataset: Dataset) -> None:
    for split in dataset.splits:
        pixels = {name: pixels_of(dataset, split, name).astype(float) for name in TEXTURES}
        for name in ("brick", "grass", "gravel"):
            assert np.ptp(pixels[name], axis=-1).max() == 0, f"{name} is grey"
        for name in ("fur", "retina", "wood"):
            red, _, blue = pixels[name].mean(axis=(0, 1, 2))
            assert red > blue + 20, f"{name} is brown or red"
        contrast = {name: pixels[name].std(axis=(1, 2)).mean(axis=-1) for name in TEXTURES}
        assert all(spread.min() > 2 for spread in contrast.values()), "no patch is of one colour"
        assert contrast["gravel"].mean() > 2 * contrast["retina"].mean(), "stones are rough, a retina is smooth"
        assert all(part.mean(axis=(1, 2, 3)).min() > 40 for part in pixels.values()), "no patch is black"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 7}, "size=7 .*give 8 to 72"),
        ({"size": 73}, "size=73 .*give 8 to 72"),
        ({"count": 9}, "count=9 .*give 10 or more"),
        ({"size": 72, "count": 5000}, "count=5000 .*make count or size smaller"),
    ],
)
def test_an_option_out_of_range_is_refused_in_one_line_and_writes_nothing(
    tmp_path: Path, options: dict[str, int], words: str
) -> None:
    with pytest.raises(DatasetInvalid, match=words) as caught:
        textures(tmp_path / "root", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "root").exists()


def test_the_largest_patches_fit(tmp_path: Path) -> None:
    made = textures(tmp_path, size=72, count=10)
    assert read(files_of(made.splits["test"])[0]).shape == (72, 72, 3)


def test_a_second_call_writes_nothing_and_two_roots_get_the_same_files(tmp_path: Path) -> None:
    np.random.seed(1)
    first = textures(tmp_path / "a", count=20)
    before = state_of(tmp_path)
    again = textures(tmp_path / "a", count=20)
    assert state_of(tmp_path) == before
    assert [p.images for p in again.splits.values()] == [p.images for p in first.splits.values()]
    textures(tmp_path / "b", count=20)
    a, b = state_of(tmp_path / "a"), state_of(tmp_path / "b")
    assert {name: digest for name, (_, digest) in a.items()} == {name: digest for name, (_, digest) in b.items()}


def test_a_call_that_dies_half_way_leaves_nothing_that_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", die)
        with pytest.raises(KeyboardInterrupt):
            textures(tmp_path, count=10)
    assert list(tmp_path.iterdir()) == []
    # What a killed one leaves, which had no time to tidy up.
    (tmp_path / ".64-10-killed" / "64-10" / "train").mkdir(parents=True)
    made = textures(tmp_path, count=10)
    assert [sum(file.is_file() for file in files_of(part)) for part in made.splits.values()] == [48, 6, 6]


def test_of_two_at_once_the_second_keeps_the_firsts_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, others = module._picture, iter([tmp_path])

    def overtaken(texture: Any) -> Any:
        for root in others:
            textures(root, count=10)
        return real(texture)

    monkeypatch.setattr(module, "_picture", overtaken)
    textures(tmp_path, count=10)
    assert [place.name for place in tmp_path.iterdir()] == ["64-10"]


def test_a_picture_that_is_gone_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "files", lambda _: tmp_path / "nowhere")
    with pytest.raises(DatasetInvalid, match=r"no readable brick\.png; install"):
        textures(tmp_path / "root")
    assert list((tmp_path / "root").iterdir()) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (700, 2), (31, 33), (500, 375), (24, 40)])
def test_an_image_of_any_shape_becomes_the_size_asked_for(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    compose = turn_and_flip(24, 40)
    for seed in range(16):
        compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        result = compose(image=image)["image"]
        assert result.shape == (24, 40, 3)
        assert result.dtype == np.uint8
        assert result.flags.c_contiguous


def test_a_pickled_augmentation_does_the_same() -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    original = turn_and_flip(32, 32)
    results = []
    for compose in (original, pickle.loads(pickle.dumps(original))):
        compose.set_random_state(np.random.default_rng(3), random.Random(3))
        results.append(compose(image=image)["image"])
    assert np.array_equal(*results)


def test_without_turns_the_image_stays_upright() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[:20] = 255
    compose = turn_and_flip(64, 64, turns=False, light=0.0)
    for seed in range(20):
        compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        result = compose(image=image)["image"].astype(int)
        assert (np.diff(result[..., 0], axis=0) <= 0).all()


@pytest.mark.parametrize("light", [-0.1, 1.5, float("nan")])
def test_light_out_of_range_is_refused(light: float) -> None:
    with pytest.raises(OptionInvalid, match="must lie between 0 and 1"):
        turn_and_flip(8, 8, light=light)


@pytest.mark.parametrize("pixels", [16, 33, 128])
def test_the_network_takes_images_of_any_size_and_survives_pickle(pixels: int) -> None:
    model = texture_net(6, width=8, depth=4).eval()
    images = torch.rand(2, 3, pixels, pixels)
    logits = model(images)
    assert logits.shape == (2, 6)
    assert torch.equal(pickle.loads(pickle.dumps(model))(images), logits)


@pytest.mark.parametrize("options", [{"width": 0}, {"depth": 0}, {"depth": 7}])
def test_a_network_out_of_range_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(OptionInvalid, match="must"):
        texture_net(6, **options)
