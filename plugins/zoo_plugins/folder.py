"""The folder dataset: the user's own images, one sub-folder a class, perhaps already split."""

from __future__ import annotations

from pathlib import Path

from zoo.errors import DatasetInvalid
from zoo.plugin import Dataset, Split, image_files, image_folder

ZOO_API = 1
SPLIT_OF = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Folder names, in lower case, and the split that each holds."""


def folder(root: Path, *, path: str = "") -> Dataset:
    """Read `path`: class folders, or `train/` with class folders and perhaps `val/` and `test/` beside it.

    Args:
        root: Not used; the images stay where they are.
        path: The folder; `--dataset ./dir` is short for it.

    Raises:
        DatasetInvalid: no path, no such folder, no images, or a split with a class that train lacks.
    """
    if not path:
        raise DatasetInvalid("no folder of images was named; write --dataset ./dir or --dataset-option path=DIR")
    try:
        return _read(Path(path).expanduser().resolve())
    except (OSError, RuntimeError) as exc:  # expanduser raises RuntimeError for an unknown user
        reason = getattr(exc, "strerror", None) or exc
        raise DatasetInvalid(f"{path} cannot be read: {reason}; check the path and its permissions") from exc


def _read(path: Path) -> Dataset:
    splits = _split_folders(path)
    if not splits:
        classes, train = image_folder(path)
        return Dataset(classes=classes, splits={"train": train})
    classes, train = image_folder(splits.pop("train"))
    others = {split: _split(place, classes) for split, place in splits.items()}
    return Dataset(classes=classes, splits={"train": train, **others})


def _split_folders(path: Path) -> dict[str, Path]:
    """Return each split's folder; none if `path` itself holds the class folders."""
    folders = _folders(path) if path.is_dir() else []
    train = next((place for place in folders if place.name.lower() == "train"), None)
    if train is None or not _folders(train):
        return {}
    found: dict[str, Path] = {}
    for place in folders:
        split = SPLIT_OF.get(place.name.lower())
        if split in found:
            raise DatasetInvalid(f"{path} holds {found[split].name}/ and {place.name}/; keep one of them")
        if split:
            found[split] = place
        elif image_files(place):
            # Passing it over in silence would drop whole classes of a dataset that has one named "train".
            raise DatasetInvalid(
                f"{place} lies beside {train.name}/ but is no split (val, test); move it away or into {train.name}/"
            )
    return found


def _split(path: Path, classes: tuple[str, ...]) -> Split:
    """Read val or test by train's classes; a class may have no images there."""
    folders = _folders(path)
    unknown = [place.name for place in folders if place.name not in classes]
    if unknown:
        raise DatasetInvalid(
            f"{path} holds a class that train lacks: {', '.join(unknown)}; add it to train or remove it"
        )
    files = [(file, classes.index(place.name)) for place in folders for file in image_files(place)]
    if not files:
        raise DatasetInvalid(f"{path} holds no image in a class folder of train's; sort some into it or remove it")
    import numpy as np

    return Split(images=[file for file, _ in files], labels=np.array([label for _, label in files], dtype=np.int64))


def _folders(path: Path) -> list[Path]:
    return sorted(place for place in path.iterdir() if place.is_dir() and not place.name.startswith("."))
