"""What an augmentation promises: any picture in, the asked size out, and the same for the same random state."""

from __future__ import annotations

import pickle
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from zoo.contracts.plugins import CropsFirst, Split
from zoo.data.loader import TrainLoader
from zoo.testing.contract import Contract, changes
from zoo.testing.dataset import digest
from zoo.testing.fresh import fresh, watching_writes
from zoo.testing.toys import noise, pictures

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHAPES = ((32, 32), (8, 8), (1, 1), (1, 300), (300, 1), (50, 90), (31, 33))
SIZE = (32, 48)
"""Height and width; different, so that nobody can mix them up unnoticed."""


class AugmentationContract(Contract):
    """The promises of an augmentation."""

    kind = "augmentation"

    @pytest.fixture
    def is_random(self) -> bool:
        """Whether two seeds give two pictures; override it for a plain resize."""
        return True

    @pytest.fixture
    def make(self, loaded: Any, options: dict[str, Any]) -> Callable[..., Any]:
        """Make one for a size: `make(height, width)`."""
        return lambda height, width: loaded(height, width, **options)

    def test_any_picture_becomes_uint8_of_the_asked_size(self, make: Callable[..., Any]) -> None:
        """From 1 pixel upwards, of any proportions, RGB uint8 [height, width, 3]: no tensor, nothing normalised."""
        for size in (SIZE, (16, 16)):
            transform = make(*size)
            for shape in SHAPES:
                image = augment(transform, noise(*shape), seed=shape[0])
                got = (type(image).__name__, getattr(image, "dtype", None), getattr(image, "shape", None))
                assert got == ("ndarray", np.uint8, (*size, 3)), (
                    f"from {shape} it made {got}, wanted uint8 {(*size, 3)}"
                )

    def test_the_input_is_left_as_it_was(self, make: Callable[..., Any]) -> None:
        """The image may be the dataset's own, and is used again in the next epoch."""
        transform, image = make(*SIZE), noise(*SIZE)
        before = image.copy()
        for seed in range(20):
            augment(transform, image, seed=seed)
            assert np.array_equal(image, before), "it changed its input"

    def test_the_same_seed_gives_the_same_picture(self, make: Callable[..., Any]) -> None:
        """All its randomness comes from the state that `set_random_state` gives."""
        for seed in range(5):
            image = noise(60, 80)
            assert np.array_equal(augment(make(*SIZE), image, seed=seed), augment(make(*SIZE), image, seed=seed)), (
                "two pictures for one seed; draw only from the transform's own generators"
            )

    def test_another_seed_gives_another_picture(self, make: Callable[..., Any], is_random: bool) -> None:
        """Unless it is not random at all."""
        transform, image = make(*SIZE), noise(60, 80)
        found = {augment(transform, image, seed=seed).tobytes() for seed in range(20)}
        assert (len(found) > 1) == is_random, f"{len(found)} different pictures for 20 seeds"

    def test_what_came_before_does_not_matter(self, make: Callable[..., Any]) -> None:
        """A picture depends on its seed alone, so that a resumed run sees the same."""
        image, used = noise(60, 80), make(*SIZE)
        for seed in range(7):
            augment(used, noise(40, 40, seed=seed), seed=seed)
        assert np.array_equal(augment(used, image, seed=3), augment(make(*SIZE), image, seed=3)), (
            "the picture depends on the pictures before it"
        )

    def test_it_draws_from_no_global_generator(self, make: Callable[..., Any]) -> None:
        """Neither reads nor moves the random state of Python, numpy or torch; leaves the process as it was."""
        pictures: list[str] = []
        for _ in range(2):  # each time from other global states
            found = changes(
                lambda: pictures.append(digest(augment(make(*SIZE), noise(60, 80), seed=s) for s in range(5)))
            )
            assert not found, f"it {', '.join(found)}"
        assert pictures[0] == pictures[1], "its pictures depend on a global random state"

    def test_any_number_of_workers_gives_the_same_batches(self, make: Callable[..., Any]) -> None:
        """The loader's threads each have their own."""
        images, labels = pictures(32)
        split = Split(images=list(images), labels=labels)

        def batches(workers: int) -> list[str]:
            loader = TrainLoader(
                split=split, augmentation=lambda: make(*SIZE), size=SIZE, batch_size=8, seed=0, workers=workers
            )
            return [digest([pixels]) for pixels, _ in loader.epoch(0)]

        assert batches(0) == batches(1) == batches(4), "batches depend on the number of workers"

    def test_a_new_process_gives_the_same_picture(
        self, make: Callable[..., Any], options: dict[str, Any], tmp_path: Path
    ) -> None:
        """And says nothing, and writes nothing."""
        found = fresh(augmented, self.name, options, folder=tmp_path, hash_seed=1)
        here = [digest([augment(make(*SIZE), noise(60, 80), seed=seed)]) for seed in range(3)]
        assert found.result["pictures"] == here, "a new process makes other pictures"
        assert not found.stdout, f"it printed {found.stdout[:80]!r} on stdout"
        assert not found.result["written"], f"it wrote {found.result['written'][0]}"

    def test_crop_and_finish_do_together_what_the_call_does(self, make: Callable[..., Any]) -> None:
        """If it has `choose_crop` and `finish` (zoo.plugin.CropsFirst): a part inside the image, the same picture."""
        transform: Any = make(*SIZE)
        for seed, shape in enumerate(SHAPES if isinstance(transform, CropsFirst) else ()):
            image = noise(*shape)
            whole = augment(transform, image, seed=seed)
            transform.set_random_state(np.random.default_rng(seed), random.Random(seed))
            top, left, bottom, right = box = transform.choose_crop(*shape)
            assert 0 <= top < bottom <= shape[0], f"it chose {box} of {shape}"
            assert 0 <= left < right <= shape[1], f"it chose {box} of {shape}"
            finished = transform.finish(image=image[top:bottom, left:right])["image"]
            assert np.array_equal(finished, whole), "choose_crop and finish make another picture than the call"

    def test_it_survives_pickling(self, make: Callable[..., Any]) -> None:
        """So that it can be sent to worker processes."""
        transform = make(*SIZE)
        copy = pickle.loads(pickle.dumps(transform))
        assert np.array_equal(augment(copy, noise(60, 80)), augment(transform, noise(60, 80)))

    def test_pictures_stay_pictures(self, make: Callable[..., Any]) -> None:
        """Most of what was there is still to be seen: nobody learns from blank images."""
        transform = make(*SIZE)
        spreads = [float(augment(transform, noise(60, 80), seed=seed).std()) for seed in range(10)]
        assert np.median(spreads) > 4, "half of the pictures come out blank"


def augment(transform: Any, image: np.ndarray, *, seed: int = 0) -> Any:
    """Call a transform as the loader does: with a random state of its own."""
    transform.set_random_state(np.random.default_rng(seed), random.Random(seed))
    return transform(image=image)["image"]


def augmented(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the checksums of three pictures; runs in a new process."""
    from zoo.catalogue import Catalogue

    make = Catalogue.read().get("augmentation", name)
    make(*SIZE, **options)  # libraries that it imports may keep files of their own
    with watching_writes() as written:
        found = [digest([augment(make(*SIZE, **options), noise(60, 80), seed=seed)]) for seed in range(3)]
    return {"pictures": found, "written": written}
