"""The cats-dogs dataset: some 25,000 photographs from Kaggle's competition, as Microsoft hands them out."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath

import numpy as np

from zoo.errors import DatasetInvalid
from zoo.plugin import Dataset, Split, download, extract, image_files

ZOO_API = 1
URL = "https://download.microsoft.com/download/3/E/1/3E1C3F21-ECDB-4869-8368-6DEBA77B919F/kagglecatsanddogs_5340.zip"
# Microsoft publishes no checksum, and one that nobody has compared would only keep people out.
SHA256 = ""
FOLDERS = {"cat": "PetImages/Cat", "dog": "PetImages/Dog"}
BY_HAND = "or open that address in a browser and write --dataset-option archive=FILE"


def cats_dogs(root: Path, *, archive: str = "") -> Dataset:
    """Return Kaggle's cats and dogs, all in "train"; a few of the files are broken, as they have always been.

    zoo's own first look at every image names those and leaves them out.

    Args:
        root: Where the pictures are unpacked; once they are, neither network nor archive is needed.
        archive: The zip file, if you have it already; else it is downloaded (0.8 GB).

    Raises:
        DatasetInvalid: out of reach, or an archive without PetImages/Cat and PetImages/Dog.
    """
    place = root / "unpacked"
    if not place.is_dir():
        _unpack(root, place, archive)
    files = [image_files(place / folder) for folder in FOLDERS.values()]
    if not all(files):
        raise DatasetInvalid(f"{place} holds no pictures in {' or '.join(FOLDERS.values())}; remove it and try again")
    return Dataset(
        classes=tuple(FOLDERS),
        splits={
            "train": Split(
                images=[file for found in files for file in found],
                labels=np.repeat(np.arange(len(files), dtype=np.int64), [len(found) for found in files]),
            )
        },
        license="LicenseRef-MSR-LA",
        homepage="https://www.microsoft.com/en-us/download/details.aspx?id=54765",
        citation=(
            "J. Elson, J. R. Douceur, J. Howell and J. Saul (2007). Asirra: A CAPTCHA that Exploits Interest-Aligned "
            "Manual Image Categorization. ACM Conference on Computer and Communications Security (CCS)."
        ),
    )


def _unpack(root: Path, place: Path, archive: str) -> None:
    if archive:
        given = _absolute(archive)
        _refuse_other_archives(given)
        extract(given, place)
        return
    fetched = root / PurePosixPath(URL).name
    try:
        download(URL, fetched, sha256=SHA256)
    except DatasetInvalid as exc:
        raise DatasetInvalid(f"{exc}, {BY_HAND}") from exc
    _refuse_other_archives(fetched)
    extract(fetched, place)
    fetched.unlink()


def _absolute(archive: str) -> Path:
    try:
        return Path(archive).expanduser().absolute()
    except RuntimeError as exc:  # an unknown user
        raise DatasetInvalid(f"{archive} cannot be found: {exc}; check the path") from exc


def _refuse_other_archives(archive: Path) -> None:
    """Look before anything is unpacked: what stands below the root is believed from then on."""
    try:
        with zipfile.ZipFile(archive) as opened:
            names = [PurePosixPath(name) for name in opened.namelist()]
    except OSError as exc:
        raise DatasetInvalid(f"{archive} cannot be read: {exc.strerror or exc}; check the path") from exc
    except Exception as exc:  # zipfile meets damaged files with several kinds of errors
        raise DatasetInvalid(f"{archive} is damaged, or no zip archive; fetch {URL} again") from exc
    found = {str(name.parent) for name in names if name.suffix.lower() == ".jpg"}
    missing = [folder for folder in FOLDERS.values() if folder not in found]
    if missing:
        raise DatasetInvalid(f"{archive} holds no pictures in {' nor '.join(missing)}; the right one is {URL}")
