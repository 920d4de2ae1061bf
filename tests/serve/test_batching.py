"""Batches: each answer to its own request, none waits without need, none takes another down, none stays behind."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from zoo.deploy.serve.batching import Batcher, Full, Picture
from zoo.deploy.serve.metrics import Metrics
from zoo.deploy.serve.settings import Settings
from zoo.deploy.serve.subject import Subject, load
from zoo.runtime.errors import BundleError
from zoo.runtime.pixels import PixelError

from .conftest import expected, make_artifact, picture

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path


class Rig:
    """A batcher over the real model, whose runs are counted and can be held up."""

    def __init__(self, subject: Subject, **limits: Any) -> None:
        self.subject, self.runs, self.held = subject, [], asyncio.Event()
        self.batcher = Batcher(Settings(path="", **limits), lambda: self.subject, Metrics())

    runs: list[int]

    async def colour(self, *colours: tuple[int, ...], **options: Any) -> list[np.ndarray]:
        pictures = [Picture(f"{colour}", picture(*colour)) for colour in colours]
        answers, _ = await self.batcher.answer(pictures, top=3, **options)
        return [np.array([dict(answer.top)[name] for name in ("red", "green", "blue")]) for answer in answers]


@pytest.fixture
def rigged(colours: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run a coroutine with a rig of its own, and see that nothing is left."""

    def run(work: Callable[[Rig], Coroutine[Any, Any, None]], *, slow: float = 0.0, **limits: Any) -> Rig:
        async def main() -> Rig:
            rig = Rig(load(colours, threads=1), **limits)
            ask = rig.subject.model.ask

            def counted(pixels: Any) -> Any:
                rig.runs.append(len(pixels))
                time.sleep(slow)
                return ask(pixels)

            monkeypatch.setattr(rig.subject.model, "ask", counted)
            try:
                await work(rig)
            finally:
                rig.batcher.close()
            await asyncio.sleep(0)
            assert rig.batcher.in_hand == 0
            return rig

        return asyncio.run(main())

    return run


def test_hundreds_of_images_get_their_own_answers_in_batches(rigged: Callable[..., Any]) -> None:
    rng = np.random.default_rng(0)
    colours = [tuple(map(int, rng.integers(0, 256, 3))) for _ in range(200)]

    async def work(rig: Rig) -> None:
        groups = [colours[i : i + 1 + i % 3] for i in range(200)]
        answers = await asyncio.gather(*(rig.colour(*group) for group in groups))
        for group, found in zip(groups, answers, strict=True):
            for colour, one in zip(group, found, strict=True):
                assert np.allclose(one, expected(*colour), atol=1e-4)

    rig = rigged(work, queue=1000, max_batch=16)
    assert max(rig.runs) == 16
    assert len(rig.runs) < sum(rig.runs) / 2


def test_batches_of_one_where_none_are_wanted(rigged: Callable[..., Any]) -> None:
    async def work(rig: Rig) -> None:
        await asyncio.gather(*(rig.colour((i, 0, 0)) for i in range(20)))

    assert rigged(work, max_batch=1).runs == [1] * 20


def test_an_image_alone_does_not_wait(rigged: Callable[..., Any]) -> None:
    async def work(rig: Rig) -> None:
        async with asyncio.timeout(10):
            for red in range(5):
                await rig.colour((red, 0, 0))

    rigged(work, max_wait_ms=60_000)


def test_no_image_waits_longer_than_the_bound(rigged: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one that takes for ever to be decoded holds up nobody for longer than that."""
    from zoo.runtime.pixels import decode

    def slow(data: bytes, **options: Any) -> np.ndarray:
        if data == SLOW:
            time.sleep(1.0)
        return decode(data, **options)

    monkeypatch.setattr("zoo.deploy.serve.batching.decode", slow)

    async def work(rig: Rig) -> None:
        held = asyncio.ensure_future(rig.colour((9, 9, 9)))
        await asyncio.sleep(0.1)
        await rig.colour((1, 0, 0))
        assert not held.done()
        await held

    assert rigged(work, max_wait_ms=20, decoders=2).runs == [1, 1]


SLOW = picture(9, 9, 9)


def test_a_full_house_says_so_at_once(rigged: Callable[..., Any]) -> None:
    async def work(rig: Rig) -> None:
        first = [asyncio.ensure_future(rig.colour((red, 0, 0))) for red in range(8)]
        await asyncio.sleep(0)
        with pytest.raises(Full):
            await rig.colour((1, 1, 1))
        await asyncio.gather(*first)
        await rig.colour((1, 1, 1))
        with pytest.raises(Full):
            await rig.colour(*[(1, 1, 1)] * 9)

    rigged(work, queue=8, slow=0.02)


def test_images_of_clients_that_have_gone_are_dropped(rigged: Callable[..., Any]) -> None:
    async def work(rig: Rig) -> None:
        waiting: set[asyncio.Future[Any]] = set()
        first = asyncio.ensure_future(rig.colour((0, 0, 1)))
        await asyncio.sleep(0.05)
        gone = [asyncio.ensure_future(rig.colour((red, 0, 0), gone=waiting)) for red in range(10)]
        stays = asyncio.ensure_future(rig.colour((7, 7, 7)))
        await asyncio.sleep(0.05)
        for future in list(waiting):
            future.cancel()
        assert np.allclose((await stays)[0], expected(7, 7, 7), atol=1e-4)
        await first
        assert all(
            isinstance(one, asyncio.CancelledError) for one in await asyncio.gather(*gone, return_exceptions=True)
        )
        assert not waiting

    assert rigged(work, slow=0.3).runs == [1, 1]


def test_a_bad_image_takes_down_only_its_own_request(rigged: Callable[..., Any]) -> None:
    async def work(rig: Rig) -> None:
        async def broken() -> None:
            with pytest.raises(PixelError, match="image 2 'x' is"):
                await rig.batcher.answer([Picture("y", picture(1, 1, 1)), Picture("x", b"no")], top=1)

        await asyncio.gather(broken(), *(rig.colour((red, 0, 0)) for red in range(5)), broken())

    rigged(work)
    gc.collect()  # an exception that nobody fetched would be told now, and fail the test


def test_what_is_not_a_number_takes_down_only_its_own_image(colours: Path) -> None:
    from zoo.deploy.serve.batching import ask

    model = load(colours, threads=1).model
    original = model.session

    def session(images: np.ndarray) -> np.ndarray:
        answers = original(images)
        return np.where((images == 255).all((1, 2, 3))[:, None], np.nan, answers)

    model.session = session
    pixels = [np.full((16, 16, 3), value, np.uint8) for value in (1, 255, 2)]
    one, bad, other = ask(model, pixels)
    assert isinstance(bad, BundleError)
    assert isinstance(one, tuple)
    assert isinstance(other, tuple)


def test_a_swap_takes_effect_between_two_images(rigged: Callable[..., Any], tmp_path: Path) -> None:
    """What was prepared for one model is answered by it, also when the other is there by then."""
    other = load(make_artifact(tmp_path / "other", order=(2, 1, 0)), threads=1)

    async def work(rig: Rig) -> None:
        old = rig.subject.sha256

        async def one(red: int) -> None:
            answers, model = await rig.batcher.answer([Picture("", picture(red, 0, 0))], top=1)
            assert answers[0].top[0][0] == {old: "red", other.sha256: "blue"}[model]
            seen.add(model)

        seen: set[str] = set()
        # The network is slow, so that images for both wait at the same time.
        before = [asyncio.ensure_future(one(red)) for red in range(10, 40)]
        await asyncio.sleep(0.15)
        rig.subject = other
        await asyncio.gather(*before, *(one(red) for red in range(40, 70)))
        assert seen == {old, other.sha256}

    rigged(work, slow=0.3, max_batch=8)
