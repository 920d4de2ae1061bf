"""Archives: every member checked before it is written, and the folder appears complete or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import struct
import unicodedata
from dataclasses import dataclass, field
from itertools import pairwise
from typing import IO, TYPE_CHECKING, Any

from zoo.disk.fetch import refuse_if_full, size_text
from zoo.disk.files import scratch_folder, sync_folder
from zoo.errors import DatasetInvalid, EnvironmentBroken, ZooError, first_line

if TYPE_CHECKING:
    import tarfile
    import zipfile
    from collections.abc import Iterator
    from pathlib import Path

CHUNK = 1 << 20
MAX_BYTES = 200 * 10**9
MAX_MEMBERS = 2_000_000
MAX_RATIO = 100.0
ALWAYS_ALLOWED = 10**6
"""Bytes that any archive may unpack to: a few small files of one colour shrink by more than `MAX_RATIO`."""
MAX_TAR_HEADER = 1 << 20
"""Of the headers that hold long names: tarfile reads them into memory, whatever size they claim."""
END = struct.Struct("<4s6xH10x")
"""The end of a zip: its signature, and of how many members its directory is."""
NAME_FAULTS = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)


def extract(
    archive: Path,
    into: Path,
    *,
    max_bytes: int = MAX_BYTES,
    max_members: int = MAX_MEMBERS,
    max_ratio: float = MAX_RATIO,
) -> Path:
    """Unpack a zip or tar file (plain, gz, bz2, xz) as the folder `into`; if that is there, nothing is done.

    Only plain files and folders are made, with the modes that the system gives to new ones.

    Args:
        archive: The file; what it is is told by its content.
        into: The folder, which appears when everything is in it.
        max_bytes: That it may unpack to.
        max_members: That it may hold.
        max_ratio: Of the unpacked bytes to the archive's own.

    Raises:
        DatasetInvalid: no such archive, damaged, over a limit, or with a member that reaches outside or overwrites.
        EnvironmentBroken: the disk is full or cannot be written.
    """
    if into.exists():
        return into
    if not archive.is_file():
        raise DatasetInvalid(f"{archive} is no file; give a zip or tar archive")
    with _in_one_line(archive, into), scratch_folder(into) as scratch:
        packed = max(ALWAYS_ALLOWED, int(max_ratio * archive.stat().st_size))
        unpacking = _Unpacking(archive, scratch, min(max_bytes, packed), max_members)
        with archive.open("rb") as file:
            magic = file.read(6)
        unpack = _unpack_zip if magic[:4] in (b"PK\x03\x04", b"PK\x05\x06") else _unpack_tar
        unpack(unpacking, magic)
        try:
            scratch.rename(into)
        except OSError:
            # Another process was first: its folder is as complete as ours.
            if not into.is_dir():
                raise
        sync_folder(into.parent)
    return into


@contextlib.contextmanager
def _in_one_line(archive: Path, into: Path) -> Iterator[None]:
    try:
        yield
    except ZooError:
        raise
    except Exception as exc:  # zipfile, tarfile, zlib, lzma and bz2 raise a dozen unrelated errors for damaged files
        # EINVAL: a seek to where a damaged archive points.
        if isinstance(exc, OSError) and exc.errno not in (None, errno.EINVAL):
            raise EnvironmentBroken(
                f"cannot unpack {archive} into {into.parent}: {exc.strerror}; free space or choose another place"
            ) from exc
        raise DatasetInvalid(
            f"{archive} is damaged, or no zip or tar archive ({first_line(exc)}); fetch it again"
        ) from exc


@dataclass
class _Unpacking:
    """What has come out of an archive so far."""

    archive: Path
    folder: Path
    max_bytes: int
    max_members: int
    unpacked: int = 0
    members: int = 0
    seen: dict[str, tuple[str, bool]] = field(default_factory=dict)
    """Each path as the least careful file system compares it -> how it was written, and whether it is a folder."""

    def refused(self, name: str, why: str) -> DatasetInvalid:
        return DatasetInvalid(f"{self.archive}: its member {name!r} {why}; nothing was unpacked, get a sound archive")

    def member(self, name: str, *, is_folder: bool) -> Path:
        """Return where a member goes, all folders on its way made."""
        self.members += 1
        if self.members > self.max_members:
            raise self.refused(name, f"is one of more than {self.max_members:,}")
        parts = self._parts(name)
        if not parts and not is_folder:
            raise self.refused(name, "has no name")
        for depth in range(1, len(parts) + 1):
            self._meet(name, "/".join(parts[:depth]), is_folder or depth < len(parts))
        place = self.folder.joinpath(*parts)
        with self._naming(name):
            (place if is_folder else place.parent).mkdir(parents=True, exist_ok=True)
        return place

    def _parts(self, name: str) -> list[str]:
        if "\0" in name:
            raise self.refused(name, "has a NUL in its name")
        if "\\" in name:
            raise self.refused(name, "has a backslash in its name, which separates folders on some systems")
        if name.startswith("/") or re.match("[A-Za-z]:", name):
            raise self.refused(name, "has an absolute path")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise self.refused(name, "leads out of its folder")
        return parts

    def _meet(self, name: str, path: str, is_folder: bool) -> None:
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
        known = self.seen.get(folded)
        if known is None:
            self.seen[folded] = (path, is_folder)
        elif known[0] != path:
            raise self.refused(name, f"and {known[0]!r} have one name where case or the encoding of accents is ignored")
        elif not (is_folder and known[1]):
            raise self.refused(name, "is there twice")

    @contextlib.contextmanager
    def _naming(self, name: str) -> Iterator[None]:
        try:
            yield
        except (OSError, UnicodeError) as exc:
            if isinstance(exc, UnicodeError) or exc.errno in NAME_FAULTS:
                raise self.refused(name, "has a name that this system cannot write") from exc
            raise

    def write(self, name: str, place: Path, source: IO[bytes], size: int) -> None:
        """Copy a member's content, counting what really comes."""
        with self._naming(name):
            file = place.open("xb")
        with file:
            came = 0
            while data := source.read(CHUNK):
                came += len(data)
                self.unpacked += len(data)
                if self.unpacked > self.max_bytes:
                    raise self.over_limit(name)
                file.write(data)
        if came != size:
            raise self.refused(name, f"is damaged: {came} of {size} bytes came")

    def over_limit(self, name: str) -> DatasetInvalid:
        own = self.archive.stat().st_size
        return self.refused(
            name, f"takes it beyond {size_text(self.max_bytes)}, the limit for an archive of {size_text(own)}"
        )


def _unpack_zip(unpacking: _Unpacking, _: bytes) -> None:
    import zipfile

    with zipfile.ZipFile(unpacking.archive) as archive:
        members = archive.infolist()
        _refuse_lost(unpacking.archive, archive)
        if len(members) > unpacking.max_members:
            raise unpacking.refused(
                members[unpacking.max_members].orig_filename, f"is one of more than {unpacking.max_members:,}"
            )
        _refuse_overlaps(unpacking, members)
        # Sizes may lie, and what really comes is counted; but honest ones tell of a full disk before it is full.
        refuse_if_full(min(sum(member.file_size for member in members), unpacking.max_bytes), unpacking.folder)
        for member in members:
            # `filename` ends at the first NUL.
            name, kind = member.orig_filename, stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise unpacking.refused(name, f"is {_kind(kind)}")
            if member.flag_bits & 1:
                raise unpacking.refused(name, "is encrypted")
            is_folder = name.endswith("/") or kind == stat.S_IFDIR
            place = unpacking.member(name, is_folder=is_folder)
            if not is_folder:
                with archive.open(member) as source:
                    unpacking.write(name, place, source, member.file_size)


def _refuse_lost(path: Path, archive: zipfile.ZipFile) -> None:
    """Compare the number of members with the one at the archive's end: `zipfile` takes a directory that lost some."""
    with path.open("rb") as file:
        file.seek(-(END.size + len(archive.comment)), os.SEEK_END)
        signature, entries = END.unpack(file.read(END.size))
    # 0xFFFF: there are more, and another record counts them.
    if signature == b"PK\5\6" and entries not in (len(archive.infolist()), 0xFFFF):
        raise ValueError(f"its directory names {len(archive.infolist())} members of {entries}")


def _refuse_overlaps(unpacking: _Unpacking, members: list[zipfile.ZipInfo]) -> None:
    """Members that share their bytes make small archives of endless content."""
    for one, other in pairwise(sorted(members, key=lambda member: member.header_offset)):
        if one.header_offset + one.compress_size > other.header_offset:
            raise unpacking.refused(other.orig_filename, f"shares its bytes with {one.orig_filename!r}")


def _kind(mode: int) -> str:
    kinds = {stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    return kinds.get(mode, "a device")


def _unpack_tar(unpacking: _Unpacking, magic: bytes) -> None:
    import bz2
    import gzip
    import lzma
    import tarfile

    ended: list[bool] = []
    with contextlib.ExitStack() as stack:
        stream: Any = stack.enter_context(unpacking.archive.open("rb"))
        for start, opened in ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open)):
            if magic.startswith(start):
                stream = stack.enter_context(opened(stream))
        archive: Any = stack.enter_context(
            tarfile.open(fileobj=stream, mode="r|", tarinfo=_strict_headers(unpacking, ended))
        )
        while (member := archive.next()) is not None:
            # tarfile keeps every header; a million of them fill the memory.
            archive.members.clear()
            _unpack_tar_member(unpacking, archive, member)
        if not ended:
            raise tarfile.ReadError("it ends too early")
        # The checksum of compressed data comes after its last byte.
        rest = 0
        while data := stream.read(CHUNK):
            rest += len(data)
            if unpacking.unpacked + rest > unpacking.max_bytes:
                raise unpacking.over_limit("(after the last)")


def _unpack_tar_member(unpacking: _Unpacking, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    kinds = ((member.issym(), "a symbolic link"), (member.islnk(), "a hard link"), (member.isfifo(), "a FIFO"))
    if not (member.isreg() or member.isdir()):
        raise unpacking.refused(member.name, "is " + next((words for yes, words in kinds if yes), "a device"))
    place = unpacking.member(member.name, is_folder=member.isdir())
    source = archive.extractfile(member) if member.isreg() else None
    if source:
        with source:
            unpacking.write(member.name, place, source, member.size)


def _strict_headers(unpacking: _Unpacking, ended: list[bool]) -> type[tarfile.TarInfo]:
    """Return a TarInfo to which a damaged header is not the archive's end, and that reads no endless names."""
    import tarfile

    read_whole = (
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
    )

    class Strict(tarfile.TarInfo):
        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Strict:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                ended.append(True)
                return super().frombuf(buf, encoding, errors)
            try:
                header = super().frombuf(buf, encoding, errors)
            except tarfile.HeaderError as exc:
                # An error of another kind: tarfile takes its own for the end of the archive.
                raise ValueError(f"a header is damaged: {exc}") from exc
            if header.size < 0 or (header.type in read_whole and header.size > MAX_TAR_HEADER):
                raise unpacking.refused(header.name, f"has a header of {header.size} bytes")
            return header

    return Strict
