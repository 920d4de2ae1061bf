"""CIFAR-10 and CIFAR-100: 60,000 pictures of 32 x 32 pixels, read from their pickles without trusting them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import pickle
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from zoo.errors import DatasetInvalid, EnvironmentBroken, first_line
from zoo.plugin import Dataset, Image, Split, download, extract

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ZOO_API = 1
HOMEPAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
CITATION = "A. Krizhevsky (2009). Learning Multiple Layers of Features from Tiny Images. University of Toronto."
SIDE = 32
DECODED = "decoded.npz"


@dataclass(frozen=True, kw_only=True)
class _Source:
    """How one of the two is packed."""

    url: str
    md5: str
    """The only checksum that its authors publish."""
    folder: str
    batches: Mapping[str, tuple[str, ...]]
    """Split -> its files."""
    meta: str
    labels: Mapping[str, tuple[str, str]]
    """What we call a set of labels -> its name in a batch, and its class names' in the meta file."""


CIFAR10 = _Source(
    url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    md5="c58f30108f718f92721af3b95e74349a",
    folder="cifar-10-batches-py",
    batches={"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)},
    meta="batches.meta",
    labels={"fine": ("labels", "label_names")},
)
CIFAR100 = _Source(
    url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    md5="eb9058c3a382ffc7106e4002c42a8d85",
    folder="cifar-100-python",
    batches={"train": ("train",), "test": ("test",)},
    meta="meta",
    labels={"fine": ("fine_labels", "fine_label_names"), "coarse": ("coarse_labels", "coarse_label_names")},
)


def cifar10(root: Path, *, archive: str = "") -> Dataset:
    """Return CIFAR-10: ten classes, train and test as its authors split them. They state no licence.

    Args:
        root: Where the decoded pictures are kept; once they are, neither network nor archive is needed.
        archive: The file cifar-10-python.tar.gz, if you have it already; else it is downloaded (0.2 GB).

    Raises:
        DatasetInvalid: out of reach, or not the archive that it should be.
    """
    return _dataset(root, CIFAR10, archive, "fine")


def cifar100(root: Path, *, coarse: bool = False, archive: str = "") -> Dataset:
    """Return CIFAR-100: a hundred classes, train and test as its authors split them. They state no licence.

    Args:
        root: Where the decoded pictures are kept; once they are, neither network nor archive is needed.
        coarse: Take the twenty superclasses for classes.
        archive: The file cifar-100-python.tar.gz, if you have it already; else it is downloaded (0.2 GB).

    Raises:
        DatasetInvalid: out of reach, or not the archive that it should be.
    """
    return _dataset(root, CIFAR100, archive, "coarse" if coarse else "fine")


@dataclass(frozen=True)
class Pictures(Sequence[Image]):
    """The rows of one array, each an image; none is copied before it is asked for."""

    pixels: np.ndarray

    def __len__(self) -> int:
        return len(self.pixels)

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Image]: ...
    def __getitem__(self, index: int | slice) -> Image | Sequence[Image]:
        return Pictures(self.pixels[index]) if isinstance(index, slice) else self.pixels[index]


def _dataset(root: Path, source: _Source, archive: str, labels: str) -> Dataset:
    decoded = root / DECODED
    if not decoded.is_file():
        _prepare(root, source, archive)
    try:
        with np.load(decoded, allow_pickle=False) as kept:
            classes = tuple(str(name) for name in kept[f"classes-{labels}"])
            splits = {
                split: Split(images=Pictures(kept[f"{split}-images"]), labels=kept[f"{split}-{labels}"])
                for split in source.batches
            }
    except Exception as exc:  # a damaged file makes zipfile, zlib and numpy raise half a dozen kinds of errors
        raise DatasetInvalid(f"{decoded} is damaged ({first_line(exc)}); remove it and try again") from exc
    return Dataset(classes=classes, splits=splits, homepage=HOMEPAGE, citation=CITATION)


def _prepare(root: Path, source: _Source, archive: str) -> None:
    """Leave the decoded arrays below `root`, and nothing else."""
    fetched = None if archive else _fetched(root, source)
    with _disk_told(root):
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".batches.") as scratch:
            arrays = _decode(extract(fetched or _absolute(archive), Path(scratch, "unpacked")) / source.folder, source)
            part = Path(scratch, DECODED)
            with part.open("wb") as file:
                np.savez(file, **arrays)
                file.flush()
                os.fsync(file.fileno())
            part.replace(root / DECODED)
        if fetched:
            fetched.unlink()


def _absolute(archive: str) -> Path:
    try:
        return Path(archive).expanduser().absolute()
    except RuntimeError as exc:  # an unknown user
        raise DatasetInvalid(f"{archive} cannot be found: {exc}; check the path") from exc


@contextlib.contextmanager
def _disk_told(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise EnvironmentBroken(
            f"cannot write in {root}: {exc.strerror or exc}; free space or choose another place"
        ) from exc


def _fetched(root: Path, source: _Source) -> Path:
    file = root / source.url.rpartition("/")[2]
    try:
        download(source.url, file)
    except DatasetInvalid as exc:
        raise DatasetInvalid(
            f"{exc}, or open that address in a browser and write --dataset-option archive=FILE"
        ) from exc
    with file.open("rb") as opened:
        got = hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if got != source.md5:
        bad = file.replace(file.with_name(f"{file.name}.bad"))
        raise DatasetInvalid(
            f"{source.url} has the wrong checksum: expected MD5 {source.md5}, got {got}; "
            f"it was moved to {bad}; try again"
        )
    return file


def _decode(folder: Path, source: _Source) -> dict[str, Any]:
    """Return every array by the name under which it is kept."""
    meta = _read(folder / source.meta)
    arrays: dict[str, np.ndarray] = {}
    for ours, (_, names) in source.labels.items():
        arrays[f"classes-{ours}"] = _classes(folder / source.meta, meta.get(names.encode()))
    for split, files in source.batches.items():
        batches = [(folder / file, _read(folder / file)) for file in files]
        arrays[f"{split}-images"] = np.concatenate([_images(file, batch.get(b"data")) for file, batch in batches])
        for ours, (theirs, _) in source.labels.items():
            count = len(arrays[f"classes-{ours}"])
            found = [_labels(file, batch, theirs, count) for file, batch in batches]
            arrays[f"{split}-{ours}"] = np.concatenate(found)
    return arrays


def _classes(file: Path, names: object) -> np.ndarray:
    if not isinstance(names, list) or len(names) < 2 or not all(isinstance(name, bytes) for name in names):
        raise _foreign(file, "has no list of class names")
    return np.array([name.decode("utf-8", "replace") for name in names])


def _images(file: Path, data: object) -> np.ndarray:
    rows = _rows(file, data)
    return np.ascontiguousarray(rows.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))


def _rows(file: Path, data: object) -> np.ndarray:
    pixels = data.pixels if isinstance(data, _Array) else None
    if pixels is None or pixels.ndim != 2 or pixels.shape[1] != 3 * SIDE * SIDE or not len(pixels):
        raise _foreign(file, f"has no rows of {3 * SIDE * SIDE} pixel values")
    return pixels


def _labels(file: Path, batch: dict[bytes, object], name: str, classes: int) -> np.ndarray:
    found, rows = batch.get(name.encode()), len(_rows(file, batch.get(b"data")))
    if not isinstance(found, list) or len(found) != rows or not all(type(label) is int for label in found):
        raise _foreign(file, f"has no list of {rows} {name}")
    if not all(0 <= label < classes for label in found):
        raise _foreign(file, f"has {name} outside 0..{classes - 1}")
    return np.array(found, dtype=np.int64)


def _foreign(file: Path, why: str) -> DatasetInvalid:
    return DatasetInvalid(f"{file.name} in the archive {why}; get the archive from {HOMEPAGE}")


class _Dtype:
    """Stands for `numpy.dtype` while a batch is read."""

    def __init__(self, code: object, *_: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        pass  # byte order and alignment mean nothing for single bytes


class _Array:
    """Stands for `numpy.ndarray` while a batch is read, and only ever holds bytes."""

    pixels: np.ndarray | None = None

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, data = state
        if not isinstance(dtype, _Dtype) or dtype.code not in (b"u1", "u1") or not isinstance(data, bytes):
            raise pickle.UnpicklingError("an array holds something else than bytes")
        self.pixels = np.frombuffer(data, np.uint8).reshape(shape, order="F" if is_fortran else "C")


class _BatchReader(pickle.Unpickler):
    """Reads what a batch is made of and calls nothing: even numpy's own classes can do harm, so all are stand-ins."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            "numpy.core.multiarray._reconstruct": _Array,
            "numpy._core.multiarray._reconstruct": _Array,
            "numpy.ndarray": _Array,
            "numpy.dtype": _Dtype,
        }
        if f"{module}.{name}" not in allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}"[:200])
        return allowed[f"{module}.{name}"]


def _read(file: Path) -> dict[bytes, object]:
    """Return a pickled dictionary."""
    try:
        content = file.read_bytes()
    except OSError as exc:
        raise _foreign(file, f"cannot be read: {exc.strerror or exc}") from exc
    try:
        found = _BatchReader(io.BytesIO(content), encoding="bytes").load()
    except Exception as exc:  # a hostile pickle can make the reader raise anything
        raise _foreign(file, f"is no batch of pictures ({first_line(exc)})") from exc
    if not isinstance(found, dict):
        raise _foreign(file, "is no batch of pictures")
    return found
