"""The cache: what comes out is what was put in, whoever wrote it and whenever it was killed."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from zoo.data import store as stores
from zoo.data.budget import Budget, size_of
from zoo.data.store import PixelStore

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = 1e9
COUNT = 60


def picture(number: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    return rng.integers(0, 256, (20 + number % 7, 30 + number % 5, 3), np.uint8)


def fill(store: PixelStore, numbers: range = range(COUNT)) -> None:
    for number in numbers:
        store.put(number, picture(number))
    store.flush()


def check(store: PixelStore) -> int:
    """Compare everything that the store holds; return how much that is."""
    found = {number: store.get(number) for number in range(COUNT)}
    for number, pixels in found.items():
        assert pixels is None or np.array_equal(pixels, picture(number)), number
    return sum(pixels is not None for pixels in found.values())


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "SEGMENT_BYTES", 10_000)


@pytest.mark.usefixtures("small_segments")
def test_another_process_finds_what_was_put(tmp_path: Path) -> None:
    fill(PixelStore(tmp_path, Budget(LIMIT)))
    assert len(list(tmp_path.glob("*.npy"))) > 5
    again = PixelStore(tmp_path, Budget(LIMIT))
    assert len(again) == COUNT
    assert check(again) == COUNT
    pixels = again.get(3)
    assert pixels is not None
    assert not pixels.flags.writeable


@pytest.mark.usefixtures("small_segments")
def test_two_writers_do_no_harm(tmp_path: Path) -> None:
    one, other = PixelStore(tmp_path, Budget(LIMIT)), PixelStore(tmp_path, Budget(LIMIT))
    for number in range(COUNT):
        (one if number % 3 else other).put(number, picture(number))
        other.put(number, picture(number))
    one.flush()
    other.flush()
    assert check(PixelStore(tmp_path, Budget(LIMIT))) == COUNT


def test_in_memory_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = PixelStore(None, Budget(LIMIT))
    fill(store)
    assert check(store) == COUNT
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "damage", ["cut pixels", "cut index", "no index", "no pixels", "text for an index", "empty index"]
)
@pytest.mark.usefixtures("small_segments")
def test_damage_costs_images_and_nothing_else(damage: str, tmp_path: Path) -> None:
    fill(PixelStore(tmp_path, Budget(LIMIT)))
    index = sorted(tmp_path.glob("*.npy"))[1]
    file = index if "index" in damage else index.with_suffix(".pixels")
    if damage.startswith("cut"):
        os.truncate(file, file.stat().st_size - 8)
    elif damage.startswith("no"):
        file.unlink()
    else:
        file.write_text("hello" if damage.startswith("text") else "")
    again = PixelStore(tmp_path, Budget(LIMIT))
    assert 0 < check(again) < COUNT
    fill(again)
    assert check(PixelStore(tmp_path, Budget(LIMIT))) == COUNT


def test_what_killed_processes_left_is_removed_in_time(tmp_path: Path) -> None:
    for name in (".abc.pixels.x7", "abc.pixels"):
        (tmp_path / name).write_bytes(b"1234")
    PixelStore(tmp_path, Budget(LIMIT))
    assert len(list(tmp_path.iterdir())) == 2
    for file in tmp_path.iterdir():
        os.utime(file, (0, 0))
    PixelStore(tmp_path, Budget(LIMIT))
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("small_segments")
def test_a_limit_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    store = PixelStore(folder, Budget(50_000, tmp_path, frozenset([folder])))
    fill(store)
    assert "limit" in store.full
    assert 0 < check(store) < COUNT
    assert size_of(folder) < 60_000


@pytest.mark.usefixtures("small_segments")
def test_what_was_not_used_for_the_longest_time_makes_room(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("old", "older", "own")]
    for folder, used in zip(folders, (2000, 1000, 3000), strict=True):
        folder.mkdir()
        if folder.name != "own":
            fill(PixelStore(folder, Budget(LIMIT)))
        os.utime(folder, (used, used))
    half = size_of(folders[0])
    store = PixelStore(folders[2], Budget(2.3 * half, tmp_path, frozenset([folders[2]])))
    fill(store)
    assert not store.full
    assert [folder.is_dir() for folder in folders] == [True, False, True]


def test_a_disk_that_cannot_be_written_is_told_and_does_no_harm(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("in the way")
    store = PixelStore(place, Budget(LIMIT))
    fill(store)
    assert "cannot write" in store.full
    assert check(store) == COUNT


def build_slowly(folder: str, begun: str) -> None:
    """Fill a store as a run does, until it is killed; runs in a process of its own."""
    from pathlib import Path

    stores.SEGMENT_BYTES = 6_000
    store = PixelStore(Path(folder), Budget(LIMIT))
    Path(begun).touch()
    for number in range(COUNT):
        if store.get(number) is None:
            store.put(number, picture(number))
    store.flush()


@pytest.mark.slow
def test_fifty_kills_leave_nothing_wrong(tmp_path: Path) -> None:
    folder, begun = tmp_path / "store", tmp_path / "begun"
    folder.mkdir()
    context = multiprocessing.get_context("fork")
    draw, killed = random.Random(0), 0
    for _ in range(2000):
        begun.unlink(missing_ok=True)
        process = context.Process(target=build_slowly, args=(str(folder), str(begun)))
        process.start()
        while not begun.exists() and process.is_alive():
            time.sleep(0.0002)
        time.sleep(draw.uniform(0, 0.03))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        check(PixelStore(folder, Budget(LIMIT)))
        if killed >= 50:
            break
        if process.exitcode == 0 or draw.random() < 0.2:  # once it is complete, begin anew
            for file in folder.iterdir():
                file.unlink()
    assert killed >= 50
    last = PixelStore(folder, Budget(LIMIT))
    fill(last)
    assert check(PixelStore(folder, Budget(LIMIT))) == COUNT
