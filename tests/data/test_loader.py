"""Batches: the same bytes for any number of workers, from any step, and the device's own pixels in evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from zoo.contracts.preprocess import Preprocess
from zoo.data.buffers import Buffers
from zoo.data.faults import Faults
from zoo.data.loader import Shard, TrainLoader, evaluation_batches, in_order
from zoo.data.order import balanced, occurrences
from zoo.errors import DatasetInvalid, ImageUnreadable
from zoo.plugin import Image, Split


def make_split(count: int = 50) -> Split:
    rng = np.random.default_rng(0)
    return Split(images=[rng.integers(0, 256, (20, 24, 3), np.uint8) for _ in range(count)], labels=np.arange(count))


def loader(workers: int, **changes: Any) -> TrainLoader:
    from zoo_plugins.augmentations import standard

    settings: dict[str, Any] = {"split": make_split(), "size": (16, 16), "batch_size": 8, "seed": 3, "workers": workers}
    settings["augmentation"] = lambda: standard(16, 16)
    return TrainLoader(**{**settings, **changes})


def stream(workers: int, epochs: int = 3) -> bytes:
    batches = loader(workers)
    return b"".join(p.tobytes() + y.tobytes() for epoch in range(epochs) for p, y in batches.epoch(epoch))


def test_workers_do_not_change_a_byte() -> None:
    assert stream(0) == stream(1) == stream(2) == stream(4)


def test_any_step_can_be_the_first() -> None:
    whole = list(loader(2).epoch(5))
    for start in (1, 3, len(whole)):
        rest = list(loader(0).epoch(5, start=start))
        assert len(rest) == len(whole) - start
        for (a, b), (c, d) in zip(rest, whole[start:], strict=True):
            assert np.array_equal(a, c)
            assert np.array_equal(b, d)


def test_transforms_do_not_share_their_draws() -> None:
    import albumentations as A

    seen: list[tuple[float, float]] = []

    class Note(A.ImageOnlyTransform):  # type: ignore[misc]
        def apply(self, img: np.ndarray, **params: Any) -> np.ndarray:
            self.drawn = float(self.random_generator.uniform())
            return img

    first, second = Note(p=1), Note(p=1)

    class Pair(A.Compose):  # type: ignore[misc]
        def __call__(self, *, image: np.ndarray) -> dict[str, Any]:
            super().__call__(image=image)
            seen.append((first.drawn, second.drawn))
            return {"image": image[:16, :16]}

    list(loader(0, augmentation=lambda: Pair([first, second])).epoch(0))
    one, other = np.array(seen).T
    assert len(set(one.tolist())) == len(one)
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.5


def test_epochs_differ_in_order_and_in_pixels() -> None:
    (first, a), (second, b) = next(iter(loader(0).epoch(0))), next(iter(loader(0).epoch(1)))
    assert a.tolist() != b.tolist()
    assert not np.array_equal(first, second)


def test_an_epoch_is_whole_batches_of_different_images() -> None:
    labels = np.concatenate([y for _, y in loader(1).epoch(0)])
    assert len(labels) == 48
    assert len(set(labels.tolist())) == 48


@pytest.mark.parametrize("workers", [0, 3])
def test_evaluation_keeps_order_and_leaves_nothing_out(workers: int) -> None:
    split, preprocess = make_split(13), Preprocess(size=(16, 16))
    found = list(evaluation_batches(split, preprocess, batch_size=5, workers=workers))
    assert [len(p) for p, _ in found] == [5, 5, 3]
    assert np.concatenate([y for _, y in found]).tolist() == list(range(13))
    pixels = np.concatenate([p for p, _ in found])
    assert np.array_equal(pixels[7], preprocess.prepare(np.asarray(split.images[7])))


def test_every_process_gets_its_rows_of_the_same_batches() -> None:
    whole = list(loader(0).epoch(2))
    parts = [list(loader(1, shard=Shard(rank=rank, of=3)).epoch(2)) for rank in range(3)]
    for step, (pixels, labels) in enumerate(whole):
        for rank, part in enumerate(parts):
            assert np.array_equal(part[step][0], pixels[rank::3])
            assert np.array_equal(part[step][1], labels[rank::3])


def test_balanced_order_shows_every_class_as_often() -> None:
    labels = np.repeat([0, 1, 2], [900, 90, 10])
    seen = labels[balanced(0, 0, labels)]
    assert (abs(np.bincount(seen) / 1000 - 1 / 3) < 0.06).all()
    assert not np.array_equal(balanced(0, 0, labels), balanced(0, 1, labels))


def test_balanced_order_counts_an_image_of_several_labels_by_the_rarest() -> None:
    labels = np.zeros((1000, 2), np.uint8)
    labels[:500, 0] = 1
    labels[:20, 1] = 1
    drawn = balanced(0, 0, labels)
    assert 0.3 < (drawn < 20).mean() < 0.6
    assert (drawn >= 500).mean() > 0.2


def test_an_image_that_comes_again_looks_different() -> None:
    order = np.array([5, 3, 5, 5, 0, 3])
    assert occurrences(order).tolist() == [0, 0, 1, 2, 0, 1]
    (pixels, labels), *_ = loader(0, order=lambda seed, epoch, labels: np.full(50, 7)).epoch(0)
    assert set(labels.tolist()) == {7}
    assert len({image.tobytes() for image in pixels}) == len(pixels)


def with_broken(count: int, broken: set[int]) -> Split:
    split = make_split(count)
    images: list[Image] = [b"no image" if i in broken else image for i, image in enumerate(split.images)]
    return Split(images=images, labels=split.labels)


def test_an_image_that_breaks_meanwhile_gives_its_place_to_the_next() -> None:
    split = with_broken(200, {7, 8})
    first, second = loader(0, split=split), loader(3, split=split)
    labels = np.concatenate([y for _, y in first.epoch(0)])
    assert 7 not in labels
    assert (labels == 9).sum() == 3
    assert set(first.faults.found) == {"image 7 of train", "image 8 of train"}
    one = [p.tobytes() for p, _ in loader(0, split=split).epoch(0)]
    assert one == [p.tobytes() for p, _ in second.epoch(0)]


def test_too_many_images_that_break_end_the_run() -> None:
    with pytest.raises(DatasetInvalid, match="limit is 1%"):
        list(loader(2, split=with_broken(200, set(range(0, 200, 20)))).epoch(0))


def test_evaluation_leaves_broken_images_out_where_somebody_takes_note() -> None:
    split, preprocess, faults = with_broken(200, {3}), Preprocess(size=(16, 16)), Faults()
    with pytest.raises(ImageUnreadable):
        list(evaluation_batches(split, preprocess))
    labels = np.concatenate([y for _, y in evaluation_batches(split, preprocess, faults=faults)])
    assert labels.tolist() == [i for i in range(200) if i != 3]
    assert list(faults.found) == ["image 3 of train"]


def test_memory_is_used_again_but_never_under_somebodys_hands() -> None:
    held = [(p, p.copy()) for p, _ in loader(2).epoch(0)]
    assert all(np.array_equal(p, copy) for p, copy in held)
    slices = [(p[3], p[3].copy()) for p, _ in loader(2).epoch(0)]
    assert all(np.array_equal(p, copy) for p, copy in slices)
    buffers = Buffers((2, 3))
    one, other = buffers.take(), buffers.take()
    assert not np.shares_memory(one, other)
    address, part = one.ctypes.data, one[1:]
    del one
    assert buffers.take().ctypes.data != address
    del part
    assert buffers.take().ctypes.data == address


def test_a_view_of_the_lent_memory_reaches_the_batch_as_it_looks() -> None:
    class Mirror:
        def set_random_state(self, random_generator: object, py_random: object) -> None:
            pass

        def choose_crop(self, height: int, width: int) -> tuple[int, int, int, int]:
            return 0, 0, 16, 16

        def finish(self, *, image: np.ndarray, out: np.ndarray | None = None) -> dict[str, Any]:
            if out is None:
                out = np.empty_like(image)
            out[:] = image
            return {"image": out[:, ::-1]}

        def __call__(self, *, image: np.ndarray) -> dict[str, Any]:
            return self.finish(image=image[:16, :16])

    split = make_split()
    (pixels, labels), *_ = loader(0, augmentation=Mirror).epoch(0)
    for image, label in zip(pixels, labels.tolist(), strict=True):
        assert np.array_equal(image, np.asarray(split.images[label])[:16, :16][:, ::-1])


def test_a_fault_in_a_worker_reaches_the_reader() -> None:
    def fail(_: np.ndarray) -> Any:
        raise ValueError("planted")

    with pytest.raises(ValueError, match="planted"):
        list(in_order(fail, [np.arange(2)] * 5, workers=2))
