"""`SHA256SUMS`, which `sha256sum -c` reads as well: nothing of a bundle is parsed before every file is unchanged."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from typing import TYPE_CHECKING

from .errors import BundleError

if TYPE_CHECKING:
    from pathlib import Path

SUMS = "SHA256SUMS"
LINE = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9_+-][A-Za-z0-9_.+-]*(?:/[A-Za-z0-9_+-][A-Za-z0-9_.+-]*)*)")
"""A digest and a path in the folder, of which no part can be ".." or hidden."""
AGAIN = "copy the bundle once more"
CHUNK = 1 << 20


def sha256(file: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while chunk := opened.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def read_sums(folder: Path) -> dict[str, str]:
    """Return name -> SHA-256 of the files that a bundle was made of.

    Raises:
        BundleError: there is no such list, or it is damaged.
    """
    try:
        text = (folder / SUMS).read_bytes().decode("ascii")
    except (OSError, UnicodeDecodeError) as exc:
        raise BundleError(f"{folder / SUMS} cannot be read ({exc}); {AGAIN}") from exc
    found: dict[str, str] = {}
    for line in text.split("\n")[:-1]:
        match = LINE.fullmatch(line)
        if not match or match[2] in found:
            raise BundleError(f"{folder / SUMS} is damaged; {AGAIN}")
        found[match[2]] = match[1]
    if text != sums_text(found):
        raise BundleError(f"{folder / SUMS} is damaged; {AGAIN}")
    return found


def sums_text(sums: dict[str, str]) -> str:
    """Return what `SHA256SUMS` holds for name -> SHA-256."""
    return "".join(f"{digest}  {name}\n" for name, digest in sums.items())


def check(folder: Path, sums: dict[str, str]) -> None:
    """Raise BundleError unless every file is there, plain, and unchanged."""
    for name, wanted in sums.items():
        file = folder / name
        try:
            plain = stat.S_ISREG(os.lstat(file).st_mode)
            same = plain and sha256(file) == wanted
        except OSError as exc:
            raise BundleError(f"{file} is missing or cannot be read; {AGAIN}") from exc
        if not same:
            raise BundleError(f"{file} is not what the bundle was made with (its checksum differs); {AGAIN}")
