"""The cache: images decoded once, kept as pixels, so that later epochs and later runs need no decoder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

import numpy as np

from zoo.contracts.plugins import Split
from zoo.data.budget import Budget
from zoo.data.decode import to_part, to_rgb
from zoo.data.prepared import Subset
from zoo.data.store import PixelStore
from zoo.disk.home import zoo_home
from zoo.errors import EnvironmentBroken

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from zoo.contracts.plugins import Image
    from zoo.contracts.preprocess import Preprocess
    from zoo.data.prepared import PreparedData

Mode = Literal["off", "ram", "disk"]
Asked = Literal["auto", "off", "ram", "disk"]
RULES = 1
"""Counts up when the pixels that are kept change, so that older stores are not read."""
MARGIN = 0.875
"""Share of the kept image's shorter side that the model's input covers."""
USUAL_ASPECT = 4 / 3


@dataclass(frozen=True)
class Stored(Sequence[np.ndarray]):
    """Images of a split as pixels, made when first asked for."""

    images: Subset
    store: PixelStore
    make: Callable[[Image], np.ndarray]

    def __len__(self) -> int:
        return len(self.images)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[np.ndarray]: ...
    def __getitem__(self, index: int | slice) -> np.ndarray | Sequence[np.ndarray]:
        if isinstance(index, slice):
            return type(self)(self.images[index], self.store, self.make)
        # Numbered as the dataset does, so that runs that cut it otherwise share the store.
        number = int(self.images.indices[index])
        pixels = self.store.get(number)
        if pixels is None:
            pixels = self.make(self.images[index])
            self.store.put(number, pixels)
        return pixels

    def name(self, index: int) -> str:
        """Return what a person calls an image."""
        return self.images.name(index)


class Prepared(Stored):
    """Each image as the device prepares it: uint8 [height, width, 3]."""


class Cache:
    """What one run keeps of its images.

    With a cache, training crops from images whose shorter side was scaled down to a little more than the model's input,
    whether an image is kept already or not: so batches do not depend on what another run, or a killed one, has kept.
    """

    def __init__(self, mode: Literal["ram", "disk"], limit: float, data: PreparedData, preprocess: Preprocess) -> None:
        """Open the stores of these images.

        Args:
            mode: "disk" shares them with other runs, below `ZOO_HOME`.
            limit: Bytes, of all stores together.
            data: The images.
            preprocess: What training and evaluation make of them.
        """
        self._data = data
        self._preprocess = preprocess
        self._side = kept_side(preprocess)
        self._told = False
        train, val = data.splits["train"].images, data.splits["val"].images
        assert isinstance(train, Subset)
        assert isinstance(val, Subset)
        root = zoo_home() / "cache" if mode == "disk" else None
        kept: list[tuple[Subset, Mapping[str, object]]] = [
            (train, {"side": self._side}),
            (val, preprocess.to_json()),
        ]
        places = [root / _key(data, images, what) if root else None for images, what in kept]
        budget = Budget(limit, root, frozenset(place for place in places if place))
        for place in places:
            _mark_used(place)
        self._train, self._val = (PixelStore(place, budget) for place in places)

    def train(self) -> Split:
        """Return the training images at the size at which they are kept."""
        return self._split("train", Stored, self._train, lambda image: shrink(image, self._side))

    def val(self) -> Split:
        """Return the validation images as the device prepares them."""
        return self._split("val", Prepared, self._val, lambda image: self._preprocess.prepare(to_rgb(image)))

    def flush(self) -> str:
        """Write what is only in memory so far; tell, the first time that it is so, why nothing more is kept."""
        for store in (self._train, self._val):
            store.flush()
        news = "" if self._told else self._train.full or self._val.full
        self._told = self._told or bool(news)
        return news

    def _split(self, name: str, kind: type[Stored], store: PixelStore, make: Callable[[Image], np.ndarray]) -> Split:
        split = self._data.splits[name]
        assert isinstance(split.images, Subset)
        return Split(images=kind(split.images, store, make), labels=split.labels)


def choose_mode(asked: Asked, data: PreparedData, preprocess: Preprocess, *, epochs: int, limit: float) -> Mode:
    """Return what `auto` comes to: a cache on disk, if it is read at least once and holds everything.

    Args:
        asked: "auto", "off", "ram" or "disk".
        data: The images.
        preprocess: Of the model.
        epochs: Of the run.
        limit: Bytes.
    """
    if asked != "auto":
        return asked
    decoded = isinstance(data.splits["train"].images[0], np.ndarray)
    if epochs < 2 or decoded:
        return "off"
    wanted = 3 * kept_side(preprocess) ** 2 * USUAL_ASPECT * len(data.splits["train"])
    wanted += 3 * math.prod(preprocess.size) * len(data.splits["val"])
    home = zoo_home()
    try:
        home.mkdir(parents=True, exist_ok=True)
        room = shutil.disk_usage(home).free / 2
    except OSError:
        return "off"
    return "disk" if wanted <= min(limit, room) else "off"


def kept_side(preprocess: Preprocess) -> int:
    """Return how many pixels the shorter side of a kept image has: 256 for an input of 224."""
    return math.ceil(max(preprocess.size) / MARGIN)


def shrink(image: Image, side: int) -> np.ndarray:
    """Return RGB uint8 [H, W, 3] whose shorter side is `side`; smaller images stay as they are.

    Raises:
        ImageUnreadable: the image is none, or not complete.
    """
    import cv2

    pixels = to_part(image, lambda height, width: (0, 0, height, width), (side, side))
    height, width = pixels.shape[:2]
    if min(height, width) <= side:
        return pixels
    scale = side / min(height, width)
    return cv2.resize(pixels, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_LINEAR)


def _key(data: PreparedData, images: Subset, what: Mapping[str, object]) -> str:
    stamps = hashlib.sha256()
    # A length does not tell that a file was changed; the time of its last change does.
    for image in images.images if data.rule == "size" and isinstance(images.images[0], Path) else []:
        assert isinstance(image, Path)
        with contextlib.suppress(OSError):
            stamps.update(str(image.stat().st_mtime_ns).encode())
    parts = [RULES, data.fingerprint, images.origin, what, stamps.hexdigest()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _mark_used(folder: Path | None) -> None:
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)
    except OSError as exc:
        raise EnvironmentBroken(f"cannot write {folder}: {exc.strerror}; use --cache off or another ZOO_HOME") from exc
