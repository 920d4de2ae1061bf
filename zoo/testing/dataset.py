"""What a dataset promises: the same classes, images and labels for everybody, whatever happens around it."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from zoo.contracts.plugins import Dataset, Split
from zoo.testing.contract import Contract, changes
from zoo.testing.fresh import Outcome, fresh, listing_backwards, watching_writes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MOST_IMAGES = 300
"""How many of each split are looked at, evenly spread."""
SPLITS = {"train", "val", "test"}


class DatasetContract(Contract):
    """The promises of a dataset; `options` names what it needs, for example a small local archive."""

    kind = "dataset"

    @pytest.fixture
    def states_license(self) -> bool:
        """Whether the data has a licence that the plugin can know; the user's own images have none."""
        return True

    @pytest.fixture
    def root(self, home: Path) -> Path:
        """The dataset's own folder."""
        return home / "datasets" / self.name.rpartition("/")[2]

    @pytest.fixture
    def prepared(self, root: Path, options: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Outcome:
        """What came of the first call, in a new process that may use the network."""
        folder = tmp_path_factory.mktemp("first")
        return self.once("prepared", lambda: fresh(describe, self.name, str(root), options, folder=folder, hash_seed=1))

    @pytest.fixture
    def again(
        self, prepared: Outcome, root: Path, options: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
    ) -> Outcome:
        """What came of the second call, in another process without a network, that lists folders the other way."""
        folder = tmp_path_factory.mktemp("second")
        asked = functools.partial(fresh, describe, self.name, str(root), options, True, folder=folder, offline=True)
        return self.once("again", lambda: asked(hash_seed=other_hash_seed(prepared.result["classes"])))

    @pytest.fixture
    def elsewhere(self, options: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Outcome | None:
        """What came of a first call somewhere else; None where that cannot be done without a network."""
        folder = tmp_path_factory.mktemp("elsewhere")
        place = str(folder / "datasets" / self.name.rpartition("/")[2])

        def ask() -> Outcome | None:
            with contextlib.suppress(AssertionError):
                return fresh(describe, self.name, place, options, folder=folder, offline=True, hash_seed=3)
            return None

        return self.once("elsewhere", ask)

    @pytest.fixture
    def dataset(self, prepared: Outcome, loaded: Any, root: Path, options: dict[str, Any]) -> Dataset:
        """What the plugin returns in this process."""
        return self.once("dataset", lambda: loaded(root, **options))  # type: ignore[no-any-return]

    def test_it_returns_a_dataset(self, dataset: object) -> None:
        """A `zoo.plugin.Dataset` with splits named train, val or test, and certainly train."""
        assert isinstance(dataset, Dataset), f"it returned {type(dataset).__name__}, not a zoo.plugin.Dataset"
        assert {"train"} <= set(dataset.splits) <= SPLITS, (
            f"splits {sorted(dataset.splits)}; zoo knows train, val, test"
        )
        for name, split in dataset.splits.items():
            assert isinstance(split, Split), f"{name} is a {type(split).__name__}, not a zoo.plugin.Split"
            assert len(split), f"{name} has no image; leave the split out"

    def test_classes_are_different_texts(self, dataset: Dataset) -> None:
        """A tuple of at least two."""
        classes = dataset.classes
        assert isinstance(classes, tuple), f"classes are a {type(classes).__name__}, not a tuple"
        assert all(isinstance(name, str) and name for name in classes), f"not all texts: {classes!r}"
        assert len(set(classes)) == len(classes) >= 2, f"not different, or fewer than two: {classes!r}"

    def test_labels_have_the_promised_dtype_and_shape(self, dataset: Dataset) -> None:
        """int64 [N], or uint8 [N, C] if multi-label."""
        for name, split in dataset.splits.items():
            wanted = (
                (np.uint8, (len(split), len(dataset.classes))) if dataset.multi_label else (np.int64, (len(split),))
            )
            got = (getattr(split.labels, "dtype", None), getattr(split.labels, "shape", None))
            assert got == wanted, f"{name}: labels are {got[0]} {got[1]}, expected {np.dtype(wanted[0])} {wanted[1]}"

    def test_labels_lie_among_the_classes(self, dataset: Dataset) -> None:
        """In 0..C-1; 0 or 1 if multi-label."""
        limit = 2 if dataset.multi_label else len(dataset.classes)
        for name, split in dataset.splits.items():
            low, high = split.labels.min(), split.labels.max()
            assert low >= 0, f"{name}: a label is {low}"
            assert high < limit, f"{name}: a label is {high}, there are {limit}"

    def test_every_class_has_training_images(self, dataset: Dataset) -> None:
        """A class that nobody can learn is a mistake in the labels."""
        labels = dataset.splits["train"].labels
        seen = set(np.flatnonzero(labels.any(0)) if dataset.multi_label else np.unique(labels))
        missing = [name for index, name in enumerate(dataset.classes) if index not in seen]
        assert not missing, f"no training image for {', '.join(missing)}"

    def test_every_image_can_be_decoded(self, dataset: Dataset) -> None:
        """To RGB uint8, completely."""
        from zoo.data.decode import to_rgb

        for name, split in dataset.splits.items():
            for index in sample(len(split)):
                pixels = to_rgb(split.images[index])
                assert pixels.dtype == np.uint8, f"{name} image {index} decodes to {pixels.dtype}"
                assert pixels.ndim == 3, f"{name} image {index} decodes to shape {pixels.shape}"
                assert pixels.shape[2] == 3, f"{name} image {index} decodes to shape {pixels.shape}"

    def test_preparing_again_changes_nothing(self, prepared: Outcome, again: Outcome) -> None:
        """A second call finds everything there: no file is made, changed or removed."""
        assert again.result["files"] == prepared.result["files"], "the second call changed files below its root"
        assert not again.result["written"], f"the second call wrote {again.result['written'][0]}"

    def test_everybody_gets_the_same(self, prepared: Outcome, again: Outcome, elsewhere: Outcome | None) -> None:
        """Classes, their order, labels and images do not depend on the process, its hash seed or random state.

        Nor on the order in which a file system lists a folder, nor on who prepared it.
        """
        for fact in ("classes", "labels", "images"):
            assert again.result[fact] == prepared.result[fact], f"{fact} differ between two processes"
            if elsewhere:
                assert elsewhere.result[fact] == prepared.result[fact], f"{fact} differ when it is prepared elsewhere"

    def test_it_works_offline_once_prepared(self, again: Outcome) -> None:
        """The second call had no network."""
        assert again.result["classes"]

    def test_it_writes_only_below_its_root(self, prepared: Outcome, root: Path) -> None:
        """Nothing in the working folder, the home or beside the root."""
        # Making the way to its root is part of it.
        allowed = {str(root), *map(str, root.parents)}
        strays = [p for p in prepared.result["written"] if p not in allowed and not p.startswith(f"{root}/")]
        assert not strays, f"it wrote {strays[0]}, outside {root}"

    def test_it_says_nothing_on_stdout(self, prepared: Outcome, again: Outcome) -> None:
        """What programs read stands there; progress belongs on stderr."""
        for call in (prepared, again):
            assert not call.stdout, f"it printed {call.stdout[:80]!r} on stdout"

    def test_it_leaves_the_process_as_it_was(self, dataset: Dataset, loaded: Any, root: Path, options: Any) -> None:
        """Random states, working folder, warnings, signals, environment; randomness comes from an own generator."""
        found = changes(lambda: loaded(root, **options))
        assert not found, f"it {', '.join(found)}"

    def test_images_can_be_read_from_several_threads(self, dataset: Dataset) -> None:
        """The loader's workers are threads."""
        split = dataset.splits["train"]
        indices = sample(len(split)) * 4
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            with ThreadPoolExecutor(8) as pool:
                found = list(pool.map(lambda index: digest([split.images[index]]), indices))
        finally:
            sys.setswitchinterval(interval)
        alone = [digest([split.images[index]]) for index in indices]
        assert found == alone, "images differ when several threads read them"

    def test_it_survives_pickling(self, dataset: Dataset) -> None:
        """So that it can be sent to worker processes."""
        copy = pickle.loads(pickle.dumps(dict(dataset.splits)))
        for name, split in dataset.splits.items():
            some = sample(len(split))
            assert digest(copy[name].images[i] for i in some) == digest(split.images[i] for i in some)

    def test_its_license_is_stated(self, dataset: Dataset, states_license: bool) -> None:
        """`--license-allow` and every artifact rely on it."""
        assert isinstance(dataset.license, str)
        assert bool(dataset.license) == states_license, (
            f"license is {dataset.license!r}; state the SPDX identifier, or set `states_license` to False"
        )

    def test_the_trainer_takes_it(self, dataset: Dataset) -> None:
        """Missing splits can be cut, with every class in each, and no image is left out."""
        from zoo.data.prepared import prepare
        from zoo.data.splits import class_counts

        data = prepare(dataset, self.name, seed=0)
        assert set(data.splits) == SPLITS
        assert not data.skipped, f"images would be left out: {dict(list(data.skipped.items())[:3])}"
        for split in SPLITS - set(dataset.splits):
            counts = class_counts(data.splits[split].labels, len(data.classes))
            without = [name for name, count in zip(data.classes, counts, strict=True) if not count]
            assert not without, f"no image of {without[0]!r} is left for {split}: are they all the same?"


def describe(name: str, root: str, options: dict[str, Any], backwards: bool = False) -> dict[str, Any]:
    """Prepare a dataset and return all that must stay the same; runs in a new process."""
    from zoo.catalogue import Catalogue

    prepare = Catalogue.read().get("dataset", name)
    with watching_writes() as written, listing_backwards() if backwards else contextlib.nullcontext():
        dataset = prepare(Path(root), **options)
        assert isinstance(dataset, Dataset), f"it returned {type(dataset).__name__}, not a zoo.plugin.Dataset"
        splits = sorted(dataset.splits.items())
        images = {name: digest(split.images[i] for i in sample(len(split))) for name, split in splits}
    return {
        "classes": list(dataset.classes),
        "labels": {name: np.asarray(split.labels).tolist() for name, split in splits},
        "images": images,
        "files": {
            str(p.relative_to(root)): [hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns]
            for p in sorted(Path(root).rglob("*"))
            if p.is_file()
        },
        "written": written,
    }


def other_hash_seed(texts: Sequence[str]) -> int:
    """Return a hash seed that orders a set of these texts differently than 1 does; of two texts, many order alike."""

    def order(seed: int) -> str:
        command = [sys.executable, "-S", "-c", "import sys; print(list(set(sys.argv[1:])))", *texts]
        environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout

    first = order(1)
    return next((seed for seed in range(2, 12) if order(seed) != first), 2)


def sample(count: int) -> list[int]:
    """Return at most MOST_IMAGES indices, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, MOST_IMAGES)).astype(int)).tolist() if count else []


def digest(images: Iterable[Path | bytes | np.ndarray]) -> str:
    """Return one checksum of the content of images."""
    found = hashlib.sha256()
    for image in images:
        found.update(
            image.read_bytes() if isinstance(image, Path) else image if isinstance(image, bytes) else image.tobytes()
        )
    return found.hexdigest()
