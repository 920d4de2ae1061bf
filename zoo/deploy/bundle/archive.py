"""One `.tar.gz`, written in exactly one way, so that whatever differs from it by a bit was not written here.

A reader that accepts only what this writer writes needs no rules for links, devices, paths that lead out, or names that
are there twice: no such archive is its own second writing.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from typing import TYPE_CHECKING, BinaryIO

from zoo.disk.files import write_atomic
from zoo.errors import ArtifactInvalid

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

GZIP = b"\x1f\x8b\x08\x04" + bytes(4) + b"\x02\xff" + struct.pack("<H2sH", 36, b"zo", 32)
"""Its header without a name or a date: deflate, slowest, system unknown; and a field of 32 bytes that gunzip skips.

There stands the SHA-256 of all that follows: a changed bit of a deflated stream need not change what it unpacks to.
"""
BLOCK = 512
RECORD = 20 * BLOCK
"""What tar fills an archive up to."""
PART = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9_.+-]*")
MOST_BYTES = 8 * 2**30
"""That an archive may unpack to: the largest size that a tar header of the common form can tell."""
MOST_RATIO = 200
"""Of the unpacked bytes to the archive's own: deflate can reach 1,000."""


def write_archive(out: Path, folder: str, files: Mapping[str, bytes]) -> None:
    """Write files, by their path, as `folder/...` into a .tar.gz; the same files give the same bytes.

    Raises:
        EnvironmentBroken: the disk is full or cannot be written.
    """
    write_atomic(out, lambda file: _write(file, folder, files))


def _write(file: BinaryIO, folder: str, files: Mapping[str, bytes]) -> None:
    packed, crc, size, digest = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS), 0, 0, hashlib.sha256()
    file.write(GZIP + bytes(32))

    def write(chunk: bytes) -> None:
        digest.update(chunk)
        file.write(chunk)

    for chunk in _tar(folder, files):
        crc, size = zlib.crc32(chunk, crc), size + len(chunk)
        write(packed.compress(chunk))
    write(packed.flush())
    write(struct.pack("<II", crc, size & 0xFFFFFFFF))
    file.seek(len(GZIP))
    file.write(digest.digest())


def _tar(folder: str, files: Mapping[str, bytes]) -> Iterator[bytes]:
    size = 0
    for name in sorted(files):
        content = files[name]
        padding = bytes(-len(content) % BLOCK)
        yield _header(f"{folder}/{name}", len(content))
        yield content
        yield padding
        size += BLOCK + len(content) + len(padding)
    yield bytes(2 * BLOCK + -(size + 2 * BLOCK) % RECORD)


def _header(path: str, size: int) -> bytes:
    """Return a ustar header: a plain file of nobody, written in 1970, that all may read."""
    name = path.encode("ascii")
    if len(name) > 100 or not all(PART.fullmatch(part) for part in path.split("/")):
        raise ValueError(f"no name for a file of a bundle: {path!r}")
    fields = [(name, 100), (b"0000644", 8), (b"0000000", 8), (b"0000000", 8), (b"%011o" % size, 12), (b"0" * 11, 12)]
    fields += [(b" " * 8, 8), (b"0", 1), (b"", 100), (b"ustar\x0000", 8), (b"", 64), (b"0000000", 8), (b"0000000", 8)]
    block = b"".join(value.ljust(width, b"\0") for value, width in fields).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def read_archive(archive: Path) -> tuple[str, dict[str, bytes]]:
    """Return the folder that an archive holds, and its files by their path.

    Raises:
        ArtifactInvalid: it is damaged, or was not written by `write_archive`.
        OSError: it cannot be read.
    """
    data = archive.read_bytes()
    try:
        return _files(_unpacked(data))
    except (ValueError, UnicodeDecodeError, zlib.error) as exc:
        raise ArtifactInvalid(f"{archive} is damaged, or no bundle of zoo's ({exc}); copy it once more") from exc


def _unpacked(data: bytes) -> bytes:
    start = len(GZIP) + 32
    if data[: len(GZIP)] != GZIP:
        raise ValueError("its header is not the one that bundles have")
    if hashlib.sha256(memoryview(data)[start:]).digest() != data[len(GZIP) : start]:
        raise ValueError("its checksum differs")
    most = min(MOST_BYTES, MOST_RATIO * len(data))
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    tar = stream.decompress(memoryview(data)[start:-8], most)
    if not stream.eof or stream.unused_data:
        raise ValueError(f"it unpacks to more than {most / 1e6:.0f} MB, or has no end")
    return tar


def _files(tar: bytes) -> tuple[str, dict[str, bytes]]:
    files: dict[str, bytes] = {}
    folders, place = set(), 0
    while tar[place : place + 1] not in (b"\0", b""):
        header = tar[place : place + BLOCK]
        path, size = header[:100].rstrip(b"\0").decode("ascii"), int(header[124:135], 8)
        if header != _header(path, size):
            raise ValueError(f"{path!r} is not a plain file as bundles have them")
        folder, _, name = path.partition("/")
        folders.add(folder)
        files[name] = tar[place + BLOCK : place + BLOCK + size]
        place += BLOCK + size + -size % BLOCK
    if len(folders) != 1 or not all(files):
        raise ValueError("its files are not in one folder")
    # What is padded otherwise, in another order, or there twice, is written otherwise.
    if b"".join(_tar(folders.pop(), files)) != tar:
        raise ValueError("it was written otherwise than bundles are")
    return folder, files
