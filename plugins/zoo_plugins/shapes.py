"""The shapes dataset: drawn, not downloaded; ten textured shapes before cluttered backgrounds, in JPEG files."""

from __future__ import annotations

import colorsys
import os
from concurrent.futures import ThreadPoolExecutor
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import EnvironmentBroken
from zoo.plugin import Dataset, OptionInvalid, Split

if TYPE_CHECKING:
    from pathlib import Path

ZOO_API = 1
SMALLEST, LARGEST = 16, 4096
MOST_THREADS = 8
SHIFT = 4
"""OpenCV takes corners as whole numbers of 1/16 pixel."""

Rng = np.random.Generator


def shapes(root: Path, *, count: int = 100, width: int = 160, height: int = 120, quality: int = 90) -> Dataset:
    """Draw ten classes of textured shapes below `root`, unless they are there; a stand-in for photos, offline.

    Args:
        root: The folder to keep the files in; every choice of options gets a sub-folder.
        count: Images of each class; a larger count only adds some.
        width: Of the images, 16 to 4096 pixels.
        height: Of the images, 16 to 4096 pixels.
        quality: Of the JPEG files, 1 to 100.

    Raises:
        OptionInvalid: an option is out of range.
        EnvironmentBroken: the disk is full or the folder cannot be written.
    """
    _check("count", count, 1, None)
    _check("width", width, SMALLEST, LARGEST)
    _check("height", height, SMALLEST, LARGEST)
    _check("quality", quality, 1, 100)
    folder = root / f"{width}x{height}-quality{quality}-count{count}"
    if not folder.is_dir():
        try:
            _write(folder, count, (width, height), quality)
        except OSError as exc:
            raise EnvironmentBroken(
                f"cannot write {folder}: {exc.strerror or exc}; free space or choose another place"
            ) from exc
    return Dataset(
        classes=CLASSES,
        splits={
            "train": Split(
                images=[folder / _file_name(label, index) for label in range(len(CLASSES)) for index in range(count)],
                labels=np.repeat(np.arange(len(CLASSES), dtype=np.int64), count),
            )
        },
        license="CC0-1.0",
    )


def _check(name: str, value: int, least: int, most: int | None) -> None:
    if value < least or (most is not None and value > most):
        room = f"{least} to {most}" if most is not None else f"{least} or more"
        raise OptionInvalid(f"{name}={value} is out of range; give {room}")


def _file_name(label: int, index: int) -> str:
    return f"{CLASSES[label]}/{index:05}.jpg"


def _write(folder: Path, count: int, size: tuple[int, int], quality: int) -> None:
    """Write all images to a temporary folder, then rename it, so that a killed call leaves nothing under the name."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        # A folder inside, since the temporary one itself may be read by its owner only.
        unfinished = folder.parent / scratch / folder.name
        for name in CLASSES:
            (unfinished / name).mkdir(parents=True)

        def write(number: int) -> None:
            label, index = divmod(number, count)
            _write_image(unfinished / _file_name(label, index), draw(label, index, size), quality)

        # Each image has its own randomness, so it does not matter which thread draws it.
        with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as pool:
            for _ in pool.map(write, range(len(CLASSES) * count)):
                pass
        try:
            unfinished.rename(folder)
        except OSError:
            # Another process may have been faster; its files are the same.
            if not folder.is_dir():
                raise


def _write_image(path: Path, pixels: np.ndarray, quality: int) -> None:
    from PIL import Image

    with path.open("wb") as file:
        Image.fromarray(pixels).save(file, "JPEG", quality=quality)
        # The rename must not outlive the pixels when the power goes.
        file.flush()
        os.fsync(file.fileno())


def draw(label: int, index: int, size: tuple[int, int]) -> np.ndarray:
    """Return image `index` of a class, RGB uint8 [height, width, 3]; the same for everybody."""
    import cv2

    rng = np.random.default_rng([label, index])
    width, height = size
    shade = rng.uniform(40, 130)
    image = _background(rng, size, shade)
    for _ in range(rng.integers(6, 13)):
        _draw_clutter(rng, image, shade)
    _draw_shape(rng, image, label)
    noise = _smooth_noise(rng, size) * np.float32(rng.uniform(4, 9))
    # A sensor's grain: without it a large picture would be far smoother, and its file smaller, than a photo's.
    noise += rng.standard_normal((height, width), dtype=np.float32) * np.float32(rng.uniform(2, 4.5))
    return np.asarray(cv2.add(image, cv2.merge([noise] * 3), dtype=cv2.CV_8U))


def _background(rng: Rng, size: tuple[int, int], shade: float) -> np.ndarray:
    """Return soft patches of a few colours around one shade of grey."""
    import cv2

    grid = rng.integers(2, 6, 2)
    colours = shade + rng.normal(0, 20, (*grid, 1)) + rng.normal(0, 12, (*grid, 3))
    return np.asarray(cv2.resize(colours.clip(0, 255).astype(np.uint8), size, interpolation=cv2.INTER_CUBIC))


def _smooth_noise(rng: Rng, size: tuple[int, int]) -> np.ndarray:
    """Return float32 [height, width]: noise of every scale, the coarser the stronger, like clouds."""
    import cv2

    width, height = size
    steps = max(1, min(width, height).bit_length() - 3)
    noise: np.ndarray = np.zeros((1, 1), np.float32)
    for step in reversed(range(1, steps + 1)):
        across, down = max(2, width >> step), max(2, height >> step)
        noise = cv2.resize(noise, (across, down), interpolation=cv2.INTER_LINEAR) * np.float32(1.6)
        noise += rng.standard_normal((down, across), dtype=np.float32)
    noise = cv2.resize(noise, size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(noise / max(float(noise.std()), 1e-6), dtype=np.float32)


def _draw_clutter(rng: Rng, image: np.ndarray, shade: float) -> None:
    """Draw something that is none of the classes: a splinter, or a line."""
    import cv2

    height, width = image.shape[:2]
    reach = min(width, height)
    colour = (shade + rng.normal(0, 28) + rng.normal(0, 14, 3)).clip(0, 255).tolist()
    place = rng.uniform((0, 0), (width, height))
    if rng.random() < 0.4:
        ends = place + rng.normal(0, 0.35 * reach, (2, 2))
        first, last = _fixed(ends)
        cv2.line(image, first, last, colour, max(1, round(reach * rng.uniform(0.004, 0.02))), cv2.LINE_AA, SHIFT)
        return
    angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(5, 9)))
    spokes = reach * rng.uniform(0.03, 0.13, (len(angles), 1))
    corners = place + spokes * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    cv2.fillPoly(image, [_fixed(corners)], colour, cv2.LINE_AA, SHIFT)


def _draw_shape(rng: Rng, image: np.ndarray, label: int) -> None:
    """Draw the shape, turned, stretched a little and textured, with a soft shadow, wholly inside the picture."""
    import cv2

    height, width = image.shape[:2]
    radius = min(width, height) * rng.uniform(0.28, 0.44)
    angle = rng.uniform(-TURN, TURN)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    stretch = np.diag(radius * rng.uniform(0.85, 1, 2))
    middle = rng.uniform((radius, radius), (width - radius, height - radius))
    margin = radius * 1.2
    left, top = np.maximum(middle - margin, 0).astype(int)
    right, bottom = np.minimum(middle + margin + 1, (width, height)).astype(int)
    corners = [_fixed(points @ stretch @ turn + middle - (left, top)) for points in OUTLINES[label]]
    mask = np.zeros((bottom - top, right - left), np.uint8)
    cv2.fillPoly(mask, corners, 255, cv2.LINE_AA, SHIFT)
    part = image[top:bottom, left:right]
    blur = max(1, round(radius * 0.08))
    offset = np.array([[1, 0, radius * 0.06], [0, 1, radius * 0.06]])
    shadow = cv2.blur(cv2.warpAffine(mask, offset, mask.shape[::-1]), (blur, blur))
    dark = part * (1 - shadow[..., np.newaxis].astype(np.float32) * np.float32(0.5 / 255))
    opaque = mask[..., np.newaxis].astype(np.float32) * np.float32(1 / 255)
    part[:] = dark + opaque * (_texture(rng, mask.shape, radius, label) - dark)


def _texture(rng: Rng, shape: tuple[int, ...], radius: float, label: int) -> np.ndarray:
    """Return float32 [h, w, 3]: stripes, checks, clouds or a slope between two bright colours."""
    import cv2

    height, width = shape
    # A class prefers a hue, as fruit does: by shape alone a small network needs many epochs, and tests have seconds.
    hue = label / len(CLASSES) + rng.normal(0, 0.08)
    first, second = _bright(rng, hue), _bright(rng, hue + rng.normal(0, 0.06)) * rng.uniform(0.55, 0.8)
    angle, period = rng.uniform(0, np.pi), radius * rng.uniform(0.12, 0.35)
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, np.newaxis]
    along = (x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))) / np.float32(period)
    across = (y * np.float32(np.cos(angle)) - x * np.float32(np.sin(angle))) / np.float32(period)
    kind = rng.integers(4)
    if kind == 0:
        share = (np.sin(along * np.float32(np.pi)) * 3 + 0.5).clip(0, 1)
    elif kind == 1:
        share = (np.sin(along * np.float32(np.pi)) * np.sin(across * np.float32(np.pi)) * 4 + 0.5).clip(0, 1)
    elif kind == 2:
        share = (_smooth_noise(rng, (width, height)) * np.float32(0.5) + 0.5).clip(0, 1)
    else:
        share = (along - along.min()) / max(float(np.ptp(along)), 1e-6)
    planes = [share * np.float32(b - a) + np.float32(a) for a, b in zip(first, second, strict=True)]
    return np.asarray(cv2.merge(planes))


def _bright(rng: Rng, hue: float) -> np.ndarray:
    """Return RGB in 0..255, stronger and brighter than what lies behind."""
    return np.multiply(colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.35, 0.9), rng.uniform(0.8, 1)), 255)


def _fixed(points: np.ndarray) -> np.ndarray:
    return np.asarray(np.rint(points * (1 << SHIFT)), dtype=np.int32)


TURN = np.radians(30)
"""How far a shape is turned at most, either way: one that stands on its head would be one more thing to learn."""


def _spokes(radii: list[float], *, first: float = -90) -> np.ndarray:
    """Return corners at equal angles, clockwise in a picture, from `first` in degrees (-90 is up)."""
    angles = np.radians(first + 360 / len(radii) * np.arange(len(radii)))
    return np.asarray(np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.array(radii)[:, np.newaxis])


def _cross() -> np.ndarray:
    """Return three corners of the arm that points up, and the same turned by 90, 180 and 270 degrees."""
    arm = np.array([(-0.27, -0.27), (-0.27, -0.95), (0.27, -0.95)])
    quarter = np.array([(0, 1), (-1, 0)])
    return np.concatenate([arm @ np.linalg.matrix_power(quarter, number) for number in range(4)])


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -y - 2.5], axis=1) / 17.5


def _crescent() -> np.ndarray:
    """Return the outer arc and, back again, an inner one around a point further right."""
    outer = np.radians(np.linspace(50, 310, 40))
    ends = np.array([np.cos(outer[0]), np.sin(outer[0])])
    middle = np.array([0.55, 0])
    inner_radius = float(np.hypot(*(ends - middle)))
    start = np.arctan2(*(ends - middle)[::-1])
    inner = np.linspace(2 * np.pi - start, start, 40)
    arcs = [np.stack([np.cos(arc), np.sin(arc)], axis=1) for arc in (outer, inner)]
    return np.asarray(np.concatenate([arcs[0], arcs[1] * inner_radius + middle]) + np.array([0.15, 0]))


def _inside_circle(outlines: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    reach = max(float(np.hypot(*points.T).max()) for points in outlines)
    return tuple(points / reach for points in outlines)


_ROUND = _spokes([1.0] * 64)
_SHAPES: dict[str, tuple[np.ndarray, ...]] = {
    "arrow": (
        np.array([(0, -1), (0.75, -0.1), (0.28, -0.1), (0.28, 0.95), (-0.28, 0.95), (-0.28, -0.1), (-0.75, -0.1)]),
    ),
    "circle": (_ROUND,),
    "crescent": (_crescent(),),
    "cross": (_cross(),),
    "heart": (_heart(),),
    "hourglass": (np.array([(-0.7, -0.85), (0.7, -0.85), (0.08, 0), (0.7, 0.85), (-0.7, 0.85), (-0.08, 0)]),),
    # The second outline is a hole.
    "ring": (_ROUND, _ROUND * 0.58),
    "square": (_spokes([1.0] * 4, first=-45),),
    "star": (_spokes([1.0, 0.42] * 5),),
    "triangle": (_spokes([1.0] * 3),),
}
CLASSES = tuple(_SHAPES)
OUTLINES = tuple(_inside_circle(outlines) for outlines in _SHAPES.values())
"""Each class's outlines, float [n, 2] in a circle of radius 1, x to the right and y downwards."""
