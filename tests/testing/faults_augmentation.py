"""Augmentations that break one promise each, named after what is wrong, and a good one."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np


class good:
    """Turn at random, and brighten a little.

    Args:
        strength: How much is added at most.
    """

    def __init__(self, height: int, width: int, *, strength: int = 40) -> None:
        self.size = height, width
        self.strength = strength

    def set_random_state(self, generator: np.random.Generator, other: random.Random) -> None:
        self.generator, self.random = generator, other

    def __call__(self, *, image: np.ndarray) -> dict[str, Any]:
        return {"image": self.picture(image)}

    def picture(self, image: np.ndarray) -> Any:
        picture = self.resized(image)[:, :: self.generator.choice([-1, 1])]
        return self.brighter(picture, int(self.generator.integers(self.strength)))

    def resized(self, image: np.ndarray) -> np.ndarray:
        rows, columns = (np.arange(side) * old // side for side, old in zip(self.size, image.shape, strict=False))
        return np.asarray(image[rows][:, columns])

    def brighter(self, image: np.ndarray, by: int) -> np.ndarray:
        return np.asarray((image.astype(int) + by).clip(0, 255).astype(np.uint8))


def plain(height: int, width: int) -> good:
    """Make one that draws nothing, for tests with `is_random` False."""
    return _Plain(height, width)


class _Plain(good):
    def picture(self, image: np.ndarray) -> Any:
        return self.resized(image)


class _Crops(good):
    """Crops first, as it should: the left or the right half of an image."""

    def choose_crop(self, height: int, width: int) -> tuple[int, int, int, int]:
        half = max(1, width // 2)
        left = int(self.generator.integers(2)) * (width - half)
        return 0, left, height, left + half

    def finish(self, *, image: np.ndarray) -> dict[str, Any]:
        return {"image": super().picture(image)}

    def picture(self, image: np.ndarray) -> Any:
        top, left, bottom, right = self.choose_crop(*image.shape[:2])
        return self.finish(image=image[top:bottom, left:right])["image"]


class the_call_crops_elsewhere(_Crops):
    def picture(self, image: np.ndarray) -> Any:
        return self.finish(image=image[:, : max(1, image.shape[1] // 2)])["image"]


class the_crop_sticks_out(_Crops):
    def choose_crop(self, height: int, width: int) -> tuple[int, int, int, int]:
        top, left, bottom, right = super().choose_crop(height, width)
        return top, left, bottom + 1, right


class width_comes_before_height(_Crops):
    def choose_crop(self, height: int, width: int) -> tuple[int, int, int, int]:
        top, left, bottom, right = super().choose_crop(height, width)
        return left, top, right, bottom

    def picture(self, image: np.ndarray) -> Any:
        return good.picture(self, image)


class finish_brightens_more(_Crops):
    def picture(self, image: np.ndarray) -> Any:
        return self.brighter(super().picture(image), 7)


# What comes out.


class floats_come_out(good):
    def picture(self, image: np.ndarray) -> Any:
        return np.float32(super().picture(image)) / 255


class channels_come_first(good):
    def picture(self, image: np.ndarray) -> Any:
        return super().picture(image).transpose(2, 0, 1)


class height_and_width_are_swapped(good):
    def __init__(self, height: int, width: int) -> None:
        super().__init__(width, height)


class grey_comes_out(good):
    def picture(self, image: np.ndarray) -> Any:
        return super().picture(image).mean(2).astype(np.uint8)


class the_size_stays(good):
    def resized(self, image: np.ndarray) -> np.ndarray:
        return image


class a_list_comes_out(good):
    def picture(self, image: np.ndarray) -> Any:
        return super().picture(image).tolist()


class small_pictures_are_not_enlarged(good):
    def resized(self, image: np.ndarray) -> np.ndarray:
        return super().resized(image) if min(image.shape[:2]) > 1 else image


class one_pixel_is_too_few(good):
    def resized(self, image: np.ndarray) -> np.ndarray:
        step = 8 // (image.shape[0] - 1)
        return super().resized(image) if step < 99 else image


# What goes in.


class brightens_in_place(good):
    def picture(self, image: np.ndarray) -> Any:
        image += 1
        return super().picture(image)


class sometimes_brightens_in_place(good):
    def picture(self, image: np.ndarray) -> Any:
        if self.generator.random() < 0.2:
            image += 1
        return super().picture(image)


# Its randomness.


class draws_from_an_own_generator(good):
    def picture(self, image: np.ndarray) -> Any:
        return self.brighter(self.resized(image), int(np.random.default_rng().integers(200)))


class draws_from_the_clock(good):
    def picture(self, image: np.ndarray) -> Any:
        return self.brighter(self.resized(image), time.perf_counter_ns() % 199)


class is_always_the_same(good):
    def picture(self, image: np.ndarray) -> Any:
        return self.brighter(self.resized(image), 7)


class forgets_to_take_the_seed(good):
    def set_random_state(self, generator: np.random.Generator, other: random.Random) -> None:
        self.generator = np.random.default_rng(0)


class grows_stronger(good):
    calls = 0

    def picture(self, image: np.ndarray) -> Any:
        self.calls += 1
        return self.brighter(super().picture(image), self.calls)


class mixes_in_the_last_picture(good):
    last: Any = 0

    def picture(self, image: np.ndarray) -> Any:
        picture = super().picture(image)
        mixed = (picture * 0.9 + 0.1 * self.last).astype(np.uint8)
        self.last = picture
        return mixed


class draws_from_python_s_generator(good):
    def picture(self, image: np.ndarray) -> Any:
        return self.brighter(super().picture(image), random.randrange(50))


class draws_from_numpy_s_generator(good):
    def picture(self, image: np.ndarray) -> Any:
        return self.brighter(super().picture(image), np.random.randint(50))


class seeds_numpy_s_generator(good):
    def picture(self, image: np.ndarray) -> Any:
        np.random.seed(int(self.generator.integers(1000)))
        return self.brighter(super().picture(image), np.random.randint(50))


class draws_from_torch_s_generator(good):
    def picture(self, image: np.ndarray) -> Any:
        import torch

        torch.manual_seed(int(self.generator.integers(1000)))
        return self.brighter(super().picture(image), int(torch.randint(50, ())))


class borrows_python_s_generator(good):
    def picture(self, image: np.ndarray) -> Any:
        state = random.getstate()
        by = random.randrange(50)
        random.setstate(state)
        return self.brighter(super().picture(image), by)


# Who else is there.


class threads_share_its_state(good):
    def set_random_state(self, generator: np.random.Generator, other: random.Random) -> None:
        threads_share_its_state.shared = generator
        time.sleep(0.001)

    shared: np.random.Generator

    def picture(self, image: np.ndarray) -> Any:
        self.generator = self.shared
        return super().picture(image)


class instances_count_together(good):
    calls = 0

    def __init__(self, height: int, width: int) -> None:
        super().__init__(height, width)
        instances_count_together.calls += 1
        self.number = self.calls

    def picture(self, image: np.ndarray) -> Any:
        return self.brighter(super().picture(image), self.number)


class knows_the_main_thread(good):
    def picture(self, image: np.ndarray) -> Any:
        strange = threading.current_thread() is not threading.main_thread()
        return self.brighter(super().picture(image), 9 * strange)


class depends_on_a_hash(good):
    def picture(self, image: np.ndarray) -> Any:
        return self.brighter(self.resized(image), hash("sunny") % 101)


class prints_in_a_picture(good):
    def picture(self, image: np.ndarray) -> Any:
        print(image.shape)
        return super().picture(image)


class keeps_a_log(good):
    def picture(self, image: np.ndarray) -> Any:
        Path("augmentation.log").write_text(str(image.shape))
        return super().picture(image)


class holds_a_lambda(good):
    def __init__(self, height: int, width: int) -> None:
        super().__init__(height, width)
        self.make = lambda image: image


class a_copy_forgets_its_strength(good):
    strength = 3

    def __reduce__(self) -> Any:
        return a_copy_forgets_its_strength, self.size, {"size": self.size, "strength": 3}


class black_comes_out(good):
    def picture(self, image: np.ndarray) -> Any:
        return super().picture(image) * np.uint8(0)


class two_of_three_are_erased(good):
    def picture(self, image: np.ndarray) -> Any:
        picture = super().picture(image)
        picture[:] = picture.mean() if self.generator.random() < 0.7 else picture
        return picture


BROKEN = {
    "test_any_picture_becomes_uint8_of_the_asked_size": (
        "floats_come_out",
        "channels_come_first",
        "height_and_width_are_swapped",
        "grey_comes_out",
        "the_size_stays",
        "a_list_comes_out",
        "small_pictures_are_not_enlarged",
        "one_pixel_is_too_few",
    ),
    "test_the_input_is_left_as_it_was": (
        "brightens_in_place",
        "sometimes_brightens_in_place",
    ),
    "test_the_same_seed_gives_the_same_picture": ("draws_from_an_own_generator", "draws_from_the_clock"),
    "test_another_seed_gives_another_picture": ("is_always_the_same", "forgets_to_take_the_seed"),
    "test_what_came_before_does_not_matter": ("grows_stronger", "mixes_in_the_last_picture"),
    "test_it_draws_from_no_global_generator": (
        "draws_from_python_s_generator",
        "draws_from_numpy_s_generator",
        "seeds_numpy_s_generator",
        "draws_from_torch_s_generator",
        "borrows_python_s_generator",
    ),
    "test_any_number_of_workers_gives_the_same_batches": (
        "threads_share_its_state",
        "instances_count_together",
        "knows_the_main_thread",
    ),
    "test_a_new_process_gives_the_same_picture": ("depends_on_a_hash", "prints_in_a_picture", "keeps_a_log"),
    "test_crop_and_finish_do_together_what_the_call_does": (
        "the_call_crops_elsewhere",
        "the_crop_sticks_out",
        "width_comes_before_height",
        "finish_brightens_more",
    ),
    "test_it_survives_pickling": ("holds_a_lambda", "a_copy_forgets_its_strength"),
    "test_pictures_stay_pictures": ("black_comes_out", "two_of_three_are_erased"),
}
"""Promise -> what breaks it."""
FAULTS = {fault: promise for promise, faults in BROKEN.items() for fault in faults}
"""Fault -> the test that must fail for it."""

RAISES: dict[str, tuple[str, ...]] = {
    "one_pixel_is_too_few": ("ZeroDivisionError",),
    "holds_a_lambda": ("PicklingError", "AttributeError"),
}
"""Fault -> the errors by which it shows, where it is not an assertion of the kit's."""
SOURCES: dict[str, str] = {}
