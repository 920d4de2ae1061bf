"""A folder of images -> classes and a split, for authors of datasets."""

from __future__ import annotations

import os
from pathlib import Path

from zoo.contracts.plugins import Split
from zoo.errors import DatasetInvalid

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


def image_folder(path: Path) -> tuple[tuple[str, ...], Split]:
    """Read a folder with one sub-folder a class: classes sorted by name, files sorted by path, found at any depth.

    Symbolic links to folders are not followed and hidden files are passed over, as is whatever has no image suffix.

    Raises:
        DatasetInvalid: no such folder, fewer than two classes, or a class without images.
    """
    if not path.is_dir():
        raise DatasetInvalid(f"{path} is not a folder; give one that holds a sub-folder of images for each class")
    folders = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(folders) < 2:
        found = ", ".join(p.name for p in folders) or "none"
        raise DatasetInvalid(f"{path} needs a sub-folder for each of at least 2 classes, found: {found}")
    files = [image_files(folder) for folder in folders]
    for folder, found_files in zip(folders, files, strict=True):
        if not found_files:
            raise DatasetInvalid(
                f"{folder} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))}); add some or remove it"
            )
    import numpy as np

    labels = np.repeat(np.arange(len(folders), dtype=np.int64), [len(f) for f in files])
    return tuple(p.name for p in folders), Split(
        images=[f for found_files in files for f in found_files], labels=labels
    )


def image_files(folder: Path) -> list[Path]:
    """Return the files with an image suffix at any depth, sorted; hidden ones and links to folders are passed over."""
    found: list[Path] = []
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(root, name) for name in names if not name.startswith(".")]
    return sorted(file for file in found if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
