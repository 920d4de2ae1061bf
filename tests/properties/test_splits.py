"""Splits and folds, for any images: each in one place, equal ones together, no place moved by order or by others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zoo.data.folds import deal
from zoo.data.splits import cut, cut_by_rank
from zoo.errors import DatasetInvalid

from .told import Refused, answer

CLASSES = ("ant", "bee", "cat")
MISSING = (("val", "test"), ("val",), ("test",), ())
SEEDS = st.integers(0, 2**32 - 1)
ENOUGH = 150
"""Images of a class, of which some lie in every split by themselves: one in 10^7 seeds would need to lend any."""


@dataclass(frozen=True)
class Images:
    """What a cut knows of N images: a key each, and labels, one or (`several`) any number."""

    keys: list[str]
    held: list[frozenset[int]]
    several: bool = False

    @property
    def labels(self) -> np.ndarray:
        if not self.several:
            return np.array([min(own) for own in self.held], np.int64)
        marks = np.zeros((len(self.held), len(CLASSES)), np.uint8)
        for row, own in enumerate(self.held):
            marks[row, sorted(own)] = 1
        return marks

    def take(self, order: list[int]) -> Images:
        return Images([self.keys[i] for i in order], [self.held[i] for i in order], self.several)

    def also(self, other: Images) -> Images:
        return Images(self.keys + other.keys, self.held + other.held, self.several)

    def split_of(self, missing: tuple[str, ...], seed: int, *, by_rank: bool = False) -> list[str]:
        """Return each image's split; the test fails if one has none, or two."""
        parts = (cut_by_rank if by_rank else cut)(self.labels, self.keys, CLASSES, missing, seed)
        assert list(parts) == (["train", *missing] if by_rank else [*missing, "train"])
        found = [""] * len(self.keys)
        for split, indices in parts.items():
            assert indices.tolist() == sorted(indices.tolist())
            for index in indices.tolist():
                assert not found[index], "an image in two splits"
                found[index] = split
        assert all(found), "an image in no split"
        return found

    def fold_of(self, folds: int, seed: int) -> list[int]:
        found: list[int] = deal(self.labels, self.keys, CLASSES, folds, seed).tolist()
        return found

    def homes(self, places: list[str]) -> dict[tuple[str, frozenset[int]], set[str]]:
        """Return where the images of each key, of each class, are."""
        found: dict[tuple[str, frozenset[int]], set[str]] = {}
        for key, own, place in zip(self.keys, self.held, places, strict=True):
            found.setdefault((key, own), set()).add(place)
        return found


def key(number: int) -> str:
    return f"{number:064x}"


@st.composite
def images(draw: st.DrawFn, *, several: bool | None = None, distinct: bool = False, most: int = 40) -> Images:
    """Draw images, with three at least of each class; repeated ones among them unless they are `distinct`."""
    count = draw(st.integers(3 * len(CLASSES), most))
    numbers = draw(
        st.lists(st.integers(0, 10**9 if distinct else most), min_size=count, max_size=count, unique=distinct)
    )
    several = draw(st.booleans()) if several is None else several
    labels = st.frozensets(
        st.sampled_from(range(len(CLASSES))), min_size=0 if several else 1, max_size=3 if several else 1
    )
    held = [frozenset({place % len(CLASSES)}) for place in range(3 * len(CLASSES))]
    held += [draw(labels) for _ in range(count - len(held))]
    return Images([key(number) for number in numbers], held, several)


@st.composite
def shuffled(draw: st.DrawFn, *, several: bool | None = None) -> tuple[Images, list[int]]:
    drawn = draw(images(several=several))
    return drawn, draw(st.permutations(range(len(drawn.keys))))


def many(begin: int, *, several: bool) -> Images:
    """Return so many images that no class has to lend one."""
    numbers = range(begin, begin + len(CLASSES) * ENOUGH)
    more = [frozenset({n % len(CLASSES), n // 7 % len(CLASSES)}) for n in numbers]
    held = more if several else [frozenset({n % len(CLASSES)}) for n in numbers]
    return Images([key(number) for number in numbers], held, several)


@given(images(), st.sampled_from(MISSING), SEEDS)
def test_each_image_is_in_one_split_and_equal_ones_are_in_the_same(
    drawn: Images, missing: tuple[str, ...], seed: int
) -> None:
    found = drawn.split_of(missing, seed)
    together: dict[str, set[str]] = {}
    for own, split in zip(drawn.keys, found, strict=True):
        together.setdefault(own, set()).add(split)
    assert all(len(splits) == 1 for splits in together.values())


@given(images(several=False), st.sampled_from(MISSING), SEEDS)
def test_so_is_each_image_of_the_first_runs_within_its_class(
    drawn: Images, missing: tuple[str, ...], seed: int
) -> None:
    found = drawn.split_of(missing, seed, by_rank=True)
    assert all(len(splits) == 1 for splits in drawn.homes(found).values())


@given(shuffled(several=False), st.sampled_from(MISSING), SEEDS, st.booleans())
def test_the_order_of_the_files_decides_nothing(
    drawn: tuple[Images, list[int]], missing: tuple[str, ...], seed: int, by_rank: bool
) -> None:
    before, order = drawn
    found = before.split_of(missing, seed, by_rank=by_rank)
    assert before.take(order).split_of(missing, seed, by_rank=by_rank) == [found[i] for i in order]


@given(shuffled(several=True), st.sampled_from(MISSING), SEEDS)
def test_nor_does_it_where_images_have_several_labels(
    drawn: tuple[Images, list[int]], missing: tuple[str, ...], seed: int
) -> None:
    before, order = drawn
    found = before.split_of(missing, seed)
    assert before.take(order).split_of(missing, seed) == [found[i] for i in order]


@given(st.data(), st.booleans(), st.sampled_from(MISSING), SEEDS)
def test_images_that_come_move_no_other(
    data: st.DataObject, several: bool, missing: tuple[str, ...], seed: int
) -> None:
    there = many(data.draw(st.integers(0, 10**6)), several=several)
    coming = data.draw(images(several=several))
    before = there.split_of(missing, seed)
    assert there.also(coming).split_of(missing, seed)[: len(before)] == before
    assert coming.also(there).split_of(missing, seed)[len(coming.keys) :] == before


@given(images(several=False, distinct=True), images(several=False, distinct=True), st.data(), SEEDS)
def test_even_in_small_sets_no_image_of_another_class_is_moved(
    drawn: Images, coming: Images, data: st.DataObject, seed: int
) -> None:
    chosen = data.draw(st.sampled_from(range(len(CLASSES))))
    new = [i for i, own in enumerate(coming.held) if own == {chosen} and coming.keys[i] not in drawn.keys]
    before = drawn.split_of(("val", "test"), seed)
    after = drawn.also(coming.take(new)).split_of(("val", "test"), seed)
    assert [(own, split) for own, split in zip(drawn.held, before, strict=True) if own != {chosen}] == [
        (own, split) for own, split in zip(drawn.held, after, strict=False) if own != {chosen}
    ]


@given(images(several=False, distinct=True), st.sampled_from(MISSING), SEEDS, st.booleans())
def test_a_class_of_three_different_images_is_in_every_split(
    drawn: Images, missing: tuple[str, ...], seed: int, by_rank: bool
) -> None:
    found = drawn.split_of(missing, seed, by_rank=by_rank)
    for label in range(len(CLASSES)):
        own = {split for held, split in zip(drawn.held, found, strict=True) if label in held}
        assert own == {"train", *missing}


@given(images(), st.integers(2, 7), SEEDS)
def test_each_image_is_validated_once_and_equal_ones_together(drawn: Images, folds: int, seed: int) -> None:
    found = answer(lambda: drawn.fold_of(folds, seed), DatasetInvalid)
    if isinstance(found, Refused):
        assert "too few for" in found
        return
    # One number an image: it is in the validation images of that fold, and of no other.
    assert len(found) == len(drawn.keys)
    assert set(found) == set(range(1, folds + 1))
    assert len({(own, fold) for own, fold in zip(drawn.keys, found, strict=True)}) == len(set(drawn.keys))


@given(shuffled(), st.integers(2, 4), SEEDS)
def test_the_order_of_the_files_deals_no_other_folds(drawn: tuple[Images, list[int]], folds: int, seed: int) -> None:
    before, order = drawn
    found = answer(lambda: before.fold_of(folds, seed), DatasetInvalid)
    after = answer(lambda: before.take(order).fold_of(folds, seed), DatasetInvalid)
    assert after == (found if isinstance(found, Refused) else [found[i] for i in order])


@given(images(several=False, distinct=True), st.integers(2, 3), SEEDS)
def test_folds_of_different_images_are_as_alike_as_can_be(drawn: Images, folds: int, seed: int) -> None:
    found = np.array(drawn.fold_of(folds, seed))
    for members in (np.ones(len(found), bool), *(drawn.labels == label for label in range(len(CLASSES)))):
        counts = np.bincount(found[members], minlength=folds + 1)[1:]
        assert counts.max() - counts.min() <= 1, counts
