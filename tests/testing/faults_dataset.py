"""Datasets that break one promise each, named after what is wrong, and a good one."""

from __future__ import annotations

import os
import random
import signal
import socket
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from zoo.plugin import Dataset, Image, Split

CLASSES = ("dark", "light")


def good(root: Path, *, each: int = 6) -> Dataset:
    """Files that are written once.

    Args:
        each: How many images a class has.
    """
    root.mkdir(parents=True, exist_ok=True)
    (root / "unfinished").unlink(missing_ok=True)
    files = [root / f"{number:03}.png" for number in range(2 * each)]
    for number, file in enumerate(files):
        write(file, np.random.default_rng(number))
    return made(files)


def write(file: Path, rng: np.random.Generator) -> None:
    """Write a file, unless it is there: made elsewhere, and moved where it belongs."""
    if not file.is_file():
        import tempfile

        from PIL import Image

        with tempfile.TemporaryDirectory() as folder:
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(Path(folder, "image.png"))
            Path(folder, "image.png").replace(file)


def made(images: Sequence[Image], **changed: Any) -> Dataset:
    """Return a dataset whose classes take turns."""
    labels = np.arange(len(images)) % 2
    given = {"classes": CLASSES, "splits": {"train": Split(images=images, labels=labels)}, "license": "CC0-1.0"}
    return Dataset(**{**given, **changed})


def arrays(count: int = 12) -> list[np.ndarray]:
    """Return images that need no files."""
    return [np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8) for number in range(count)]


def with_labels(labels: Any) -> Dataset:
    """Return a dataset of 12 images with other labels."""
    return made([], splits={"train": Split(images=arrays(), labels=labels)})


class Lazy(Sequence[Image]):
    """Images that are made when they are asked for."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: Any) -> Any:
        return arrays()[index]


# What it returns.


def returns_a_dict(root: Path) -> Any:
    return {"train": arrays()}


def returns_a_tuple_for_a_split(root: Path) -> Any:
    return made([], splits={"train": (arrays(), np.arange(12) % 2)})


def no_train_split(root: Path) -> Dataset:
    return made([], splits={"test": made(arrays()).splits["train"]})


def train_is_called_training(root: Path) -> Dataset:
    return made([], splits={"training": made(arrays()).splits["train"]})


def val_is_called_valid(root: Path) -> Dataset:
    train = made(arrays()).splits["train"]
    return made([], splits={"train": train, "valid": train})


def an_empty_val_split(root: Path) -> Dataset:
    train = made(arrays()).splits["train"]
    return made([], splits={"train": train, "val": Split(images=[], labels=np.zeros(0, np.int64))})


def classes_in_a_list(root: Path) -> Dataset:
    return made(arrays(), classes=list(CLASSES))


def classes_twice_the_same(root: Path) -> Dataset:
    return made(arrays(), classes=("dark", "dark"))


def only_one_class(root: Path) -> Dataset:
    return replace(with_labels(np.zeros(12, np.int64)), classes=("dark",))


def a_class_without_a_name(root: Path) -> Dataset:
    return made(arrays(), classes=("dark", ""))


def classes_are_numbers(root: Path) -> Dataset:
    return made(arrays(), classes=(0, 1))


def labels_are_int32(root: Path) -> Dataset:
    return with_labels((np.arange(12) % 2).astype(np.int32))


def labels_are_floats(root: Path) -> Dataset:
    return with_labels(np.arange(12) % 2 * 1.0)


def labels_are_a_column(root: Path) -> Dataset:
    return with_labels((np.arange(12) % 2)[:, None])


def labels_are_a_list(root: Path) -> Dataset:
    return with_labels([0, 1] * 6)


def one_label_too_few(root: Path) -> Dataset:
    return with_labels(np.arange(11) % 2)


def labels_of_several_classes_are_int64(root: Path) -> Dataset:
    return replace(with_labels(np.eye(2, dtype=np.int64)[np.arange(12) % 2]), multi_label=True)


def labels_count_from_one(root: Path) -> Dataset:
    return with_labels(np.arange(12) % 2 + 1)


def unknown_is_minus_one(root: Path) -> Dataset:
    return with_labels(np.arange(12) % 3 - 1)


def several_labels_count_up_to_two(root: Path) -> Dataset:
    return replace(with_labels(np.full((12, 2), 2, np.uint8)), multi_label=True)


def a_class_without_images(root: Path) -> Dataset:
    return made(arrays(), classes=(*CLASSES, "dusk"))


# Its images.


def a_file_is_cut(root: Path) -> Dataset:
    from PIL import Image

    root.mkdir(parents=True, exist_ok=True)
    if not (root / "cut.jpg").exists():
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(root / "cut.jpg")
        os.truncate(root / "cut.jpg", 1500)
    return made([root / "cut.jpg", *arrays(11)])


def images_are_floats(root: Path) -> Dataset:
    return made([image / np.float32(255) for image in arrays()])


def images_are_grey(root: Path) -> Dataset:
    return made([image[..., 0] for image in arrays()])


class OneHandle(Lazy):
    """A file that every thread seeks in."""

    def __init__(self, file: Path) -> None:
        self.file = file.open("rb", buffering=0)
        self.path = file

    def __getitem__(self, index: Any) -> Any:
        self.file.seek(192 * int(index))
        time.sleep(1e-4)  # so that others come between for certain
        return np.frombuffer(self.file.read(192), np.uint8).reshape(8, 8, 3)

    def __reduce__(self) -> Any:
        return OneHandle, (self.path,)


def threads_share_a_file_handle(root: Path) -> Dataset:
    root.mkdir(parents=True, exist_ok=True)
    if not (root / "all.bin").exists():
        (root / "all.bin").write_bytes(np.stack(arrays()).tobytes())
    return made(OneHandle(root / "all.bin"))


class OneBuffer(Lazy):
    """A buffer that every image is drawn into."""

    def __init__(self) -> None:
        self.buffer = np.zeros((64, 64, 3), np.uint8)

    def __getitem__(self, index: Any) -> Any:
        self.buffer[:] = index
        self.buffer[:8, :8] = arrays()[index]
        time.sleep(1e-4)  # so that others come between for certain
        return self.buffer


def threads_share_a_buffer(root: Path) -> Dataset:
    return made(OneBuffer())


class ByLambda(Lazy):
    """Made by a function that no other process can find."""

    def __init__(self) -> None:
        self.make: Any = lambda index: arrays()[index]

    def __getitem__(self, index: Any) -> Any:
        return self.make(index)


def images_come_from_a_lambda(root: Path) -> Dataset:
    return made(ByLambda())


class Forgetful(Lazy):
    """Loses on the way what it has drawn."""

    def __init__(self, brightness: int = 0) -> None:
        self.brightness = brightness

    def __getitem__(self, index: Any) -> Any:
        return arrays()[index] // 2 + self.brightness

    def __reduce__(self) -> Any:
        return Forgetful, ()


def a_copy_forgets_what_it_was_told(root: Path) -> Dataset:
    return made(Forgetful(9))


# What stays on the disk.


def every_call_writes_anew(root: Path) -> Dataset:
    for file in root.glob("*.png"):
        file.unlink()
    return good(root)


def every_call_counts(root: Path) -> Dataset:
    dataset = good(root)
    with (root / "calls.log").open("a") as log:
        log.write("called\n")
    return dataset


def the_second_call_removes_the_archive(root: Path) -> Dataset:
    root.mkdir(parents=True, exist_ok=True)
    if (root / "archive.zip").exists():
        (root / "archive.zip").unlink()
    else:
        (root / "archive.zip").write_bytes(b"archive")
    return made(arrays())


def needs_a_network_each_time(root: Path) -> Dataset:
    socket.getaddrinfo("localhost", 80)
    return made(arrays())


def writes_into_the_working_folder(root: Path) -> Dataset:
    Path("download.log").write_text("done")
    return made(arrays())


def writes_into_the_home(root: Path) -> Dataset:
    (Path.home() / ".flowers").mkdir(exist_ok=True)
    return made(arrays())


def writes_beside_its_root(root: Path) -> Dataset:
    root.mkdir(parents=True, exist_ok=True)
    (root / ".." / "archive.zip").write_bytes(b"archive")
    return made(arrays())


def moves_a_file_out_of_its_root(root: Path) -> Dataset:
    root.mkdir(parents=True, exist_ok=True)
    (root / "archive.zip").write_bytes(b"archive")
    (root / "archive.zip").replace(Path.home() / "archive.zip")
    return made(arrays())


# What it is for others.


def classes_from_a_set(root: Path) -> Dataset:
    return made(arrays(), classes=tuple(set(CLASSES)))


def images_in_the_order_of_the_folder(root: Path) -> Dataset:
    good(root)
    return made([*root.iterdir()])


def images_in_the_order_of_a_walk(root: Path) -> Dataset:
    good(root)
    return made([Path(folder, name) for folder, _, names in os.walk(root) for name in names])


def images_drawn_anew_each_time(root: Path) -> Dataset:
    return made([np.random.default_rng().integers(0, 256, (8, 8, 3), dtype=np.uint8) for _ in range(12)])


def images_drawn_once_without_a_seed(root: Path) -> Dataset:
    good(root, each=5)
    for name in ("last.png", "very-last.png"):
        write(root / name, np.random.default_rng())
    return made(sorted(root.iterdir()))


def prints_that_it_is_there(root: Path) -> Dataset:
    if (root / "000.png").exists():
        print("files already downloaded and verified")
    return good(root)


def seeds_numpy(root: Path) -> Dataset:
    np.random.seed(0)
    return made([np.random.randint(0, 256, (8, 8, 3), np.uint8) for _ in range(12)])


def shuffles_with_python_s_generator(root: Path) -> Dataset:
    random.seed(0)
    images = arrays()
    random.shuffle(images)
    return made(images)


def moves_into_its_root(root: Path) -> Dataset:
    root.mkdir(parents=True, exist_ok=True)
    os.chdir(root)
    return made(arrays())


def sets_an_environment_variable(root: Path) -> Dataset:
    os.environ["FLOWERS_HOME"] = str(root)
    return made(arrays())


def hushes_all_warnings(root: Path) -> Dataset:
    warnings.simplefilter("ignore")
    return made(arrays())


def takes_the_interrupt(root: Path) -> Dataset:
    signal.signal(signal.SIGTERM, print_and_go_on)
    return made(arrays())


def print_and_go_on(*_: object) -> None: ...


def states_no_license(root: Path) -> Dataset:
    return made(arrays(), license="")


def license_is_none(root: Path) -> Dataset:
    return made(arrays(), license=None)


def too_few_images_to_cut(root: Path) -> Dataset:
    return made(arrays(4))


def all_images_of_a_class_are_one(root: Path) -> Dataset:
    return made(arrays(2) * 6)


def one_of_many_is_broken(root: Path) -> Dataset:
    noise = np.random.default_rng(0).integers(0, 256, (398, 2, 2, 3), dtype=np.uint8)
    return made([noise[0], b"no image", *noise])


RAISES: dict[str, tuple[str, ...]] = {
    "threads_share_a_file_handle": ("ValueError", "AssertionError"),
    "images_come_from_a_lambda": ("PicklingError", "AttributeError"),
    "images_are_floats": ("ContractBroken",),
    "images_are_grey": ("ContractBroken",),
    "a_file_is_cut": ("ImageUnreadable",),
    "needs_a_network_each_time": ("OSError",),
    "too_few_images_to_cut": ("DatasetInvalid",),
    "a_default_of_another_type": ("OptionInvalid",),
}
"""Fault -> the errors by which it shows, where it is not an assertion of the kit's."""

PLAIN = """from faults_dataset import arrays, made


def plugin(root):
    '''Say what it is.'''
    return made(arrays())
"""

SOURCES = {
    "prints_at_import": "print('hello')\n" + PLAIN,
    "seeds_at_import": "import random\nrandom.seed(0)\n" + PLAIN,
    "writes_at_import": "open('written-at-import', 'w').close()\n" + PLAIN,
    "starts_a_thread_at_import": "from threading import Timer\nTimer(9, print).start()\n" + PLAIN,
    "raises_at_import": "raise RuntimeError('no such library')\n" + PLAIN,
    "no_docstring": PLAIN.replace("    '''Say what it is.'''\n", ""),
    "an_option_without_a_help": PLAIN.replace("(root)", "(root, *, each: int = 6)"),
    "an_option_without_a_type": PLAIN.replace("(root)", "(root, *, each=6)"),
    "an_option_without_a_default": PLAIN.replace("(root)", "(root, *, each: int)"),
    "a_default_of_another_type": PLAIN.replace("(root)", "(root, *, each: int = 'six')"),
    "an_option_that_takes_anything": "from typing import Any\n" + PLAIN.replace("(root)", "(root, *, each: Any = 6)"),
    "the_star_is_forgotten": PLAIN.replace("(root)", "(root, each: int = 6)"),
}
"""Fault -> the source of its module, with `plugin` in it: what shows at import or in the signature."""

BROKEN = {
    "test_it_returns_a_dataset": (
        "returns_a_dict",
        "returns_a_tuple_for_a_split",
        "no_train_split",
        "train_is_called_training",
        "val_is_called_valid",
        "an_empty_val_split",
    ),
    "test_classes_are_different_texts": (
        "classes_in_a_list",
        "classes_twice_the_same",
        "only_one_class",
        "a_class_without_a_name",
        "classes_are_numbers",
    ),
    "test_labels_have_the_promised_dtype_and_shape": (
        "labels_are_int32",
        "labels_are_floats",
        "labels_are_a_column",
        "labels_are_a_list",
        "one_label_too_few",
        "labels_of_several_classes_are_int64",
    ),
    "test_labels_lie_among_the_classes": (
        "labels_count_from_one",
        "unknown_is_minus_one",
        "several_labels_count_up_to_two",
    ),
    "test_every_class_has_training_images": ("a_class_without_images",),
    "test_every_image_can_be_decoded": ("a_file_is_cut", "images_are_floats", "images_are_grey"),
    "test_images_can_be_read_from_several_threads": ("threads_share_a_file_handle", "threads_share_a_buffer"),
    "test_it_survives_pickling": ("images_come_from_a_lambda", "a_copy_forgets_what_it_was_told"),
    "test_preparing_again_changes_nothing": (
        "every_call_writes_anew",
        "every_call_counts",
        "the_second_call_removes_the_archive",
    ),
    "test_it_works_offline_once_prepared": ("needs_a_network_each_time",),
    "test_it_writes_only_below_its_root": (
        "writes_into_the_working_folder",
        "writes_into_the_home",
        "writes_beside_its_root",
        "moves_a_file_out_of_its_root",
    ),
    "test_everybody_gets_the_same": (
        "classes_from_a_set",
        "images_in_the_order_of_the_folder",
        "images_in_the_order_of_a_walk",
        "images_drawn_anew_each_time",
        "images_drawn_once_without_a_seed",
    ),
    "test_it_says_nothing_on_stdout": ("prints_that_it_is_there",),
    "test_it_leaves_the_process_as_it_was": (
        "seeds_numpy",
        "shuffles_with_python_s_generator",
        "moves_into_its_root",
        "sets_an_environment_variable",
        "hushes_all_warnings",
        "takes_the_interrupt",
    ),
    "test_its_license_is_stated": ("states_no_license", "license_is_none"),
    "test_the_trainer_takes_it": ("too_few_images_to_cut", "all_images_of_a_class_are_one", "one_of_many_is_broken"),
    "test_importing_it_does_nothing_else": (
        "prints_at_import",
        "seeds_at_import",
        "writes_at_import",
        "starts_a_thread_at_import",
        "raises_at_import",
    ),
    "test_it_says_what_it_is": ("no_docstring",),
    "test_options_are_documented": ("an_option_without_a_help",),
    "test_options_are_checked": (
        "an_option_without_a_type",
        "an_option_without_a_default",
        "a_default_of_another_type",
        "an_option_that_takes_anything",
        "the_star_is_forgotten",
    ),
}
"""Promise -> what breaks it."""
FAULTS = {fault: promise for promise, faults in BROKEN.items() for fault in faults}
