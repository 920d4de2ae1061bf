"""Archives of any members, and damaged ones: nothing outside the folder changes, and it is complete or not there."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import tempfile
import warnings
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from zoo.disk.unpack import extract
from zoo.errors import DatasetInvalid

from .junk import TEXT
from .told import Refused, answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KINDS = {
    "file": (tarfile.REGTYPE, stat.S_IFREG | 0o644),
    "folder": (tarfile.DIRTYPE, stat.S_IFDIR | 0o755),
    "symbolic link": (tarfile.SYMTYPE, stat.S_IFLNK | 0o777),
    "hard link": (tarfile.LNKTYPE, stat.S_IFREG | 0o644),
    "FIFO": (tarfile.FIFOTYPE, stat.S_IFIFO | 0o644),
    "device": (tarfile.CHRTYPE, stat.S_IFCHR | 0o644),
}
"""What a member may be, for tar and for zip, which knows no hard links."""
OUTSIDE = "{outside}"
"""Stands for the absolute path of a folder that must not change."""
PARTS = st.sampled_from(
    ["a", "b", "A", "é", "e\u0301", "file.txt", "..", ".", "", " ", "...", "~", "CON", "aux.png", "x" * 300]
)
ODD = st.sampled_from(
    (
        *("", ".", "/", "//", "..", "../victim", "a/../../victim", "a/..", "a/b/../c", "victim/evil", "~/evil"),
        *(f"{OUTSIDE}/victim", f"/{OUTSIDE}/evil", "//server/share/evil", "C:evil", "c:/evil", "\\evil", "..\\victim"),
        *("a\\..\\..\\victim", "a\0", "\0", "../victim\0", "./a", "a/", "a//b", "a\n", "a/" * 30 + "b"),
    )
)
PLAIN = st.lists(st.sampled_from(["a", "b", "c", "d.txt"]), min_size=1, max_size=3).map("/".join)
NAMES = PLAIN | ODD | st.lists(PARTS, max_size=4).map("/".join) | TEXT


@dataclass(frozen=True)
class Member:
    """What stands in an archive under a name."""

    name: str
    kind: str
    content: bytes

    def parts(self) -> tuple[str, ...]:
        return tuple(part for part in self.name.split("/") if part not in ("", "."))

    @property
    def harmful(self) -> bool:
        return (
            self.kind not in ("file", "folder")
            or self.name.startswith("/")
            or bool({"\\", "\0"} & set(self.name))
            or (self.name[1:2] == ":" and self.name[0].isascii() and self.name[0].isalpha())
            or ".." in self.parts()
        )


def as_read(member: Member, form: str, outside: Path) -> list[Member]:
    """Return what the format makes of a member; nothing if it knows no such thing."""
    name, kind = member.name.replace(OUTSIDE, str(outside)), member.kind
    if form == "zip":
        return [] if kind == "hard link" else [Member(name, "folder" if name.endswith("/") else kind, member.content)]
    return [Member(name.rstrip("/") if kind == "folder" else name, kind, member.content)]


def members(names: st.SearchStrategy[str], *kinds: str) -> st.SearchStrategy[list[Member]]:
    one = st.builds(Member, names, st.sampled_from(kinds), st.binary(max_size=30))
    return st.lists(one, min_size=1, max_size=4)


def zipped(members: list[Member]) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")  # names that are there twice
        for member in members:
            info = zipfile.ZipInfo()
            # Given to its constructor, a name would end at its first NUL.
            info.filename = member.name
            info.external_attr = KINDS[member.kind][1] << 16
            archive.writestr(info, member.content)
    return out.getvalue()


def tarred(members: list[Member]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for member in members:
            info = tarfile.TarInfo(member.name)
            info.type = KINDS[member.kind][0]
            info.linkname = "../victim" if member.kind.endswith("link") else ""
            if "\0" in member.name:
                # Its usual place ends at the first one.
                info.pax_headers = {"path": member.name}
            info.size = len(member.content) if member.kind == "file" else 0
            archive.addfile(info, io.BytesIO(member.content))
    return out.getvalue()


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes,
    "tar.gz": lambda content: gzip.compress(content, mtime=0),
    "tar.bz2": bz2.compress,
    "tar.xz": lzma.compress,
}
FORMATS = ("zip", *COMPRESS)


def archived(members: list[Member], form: str) -> bytes:
    return zipped(members) if form == "zip" else COMPRESS[form](tarred(members))


def seen(folder: Path) -> dict[str, bytes | str]:
    """Return everything below a folder: the content of files, and of anything else what it is."""
    found: dict[str, bytes | str] = {}
    for path in folder.rglob("*"):
        kind = stat.S_IFMT(path.lstat().st_mode)
        found[str(path.relative_to(folder))] = path.read_bytes() if kind == stat.S_IFREG else oct(kind)
    return found


@contextmanager
def place() -> Iterator[tuple[Path, Path]]:
    """Yield a folder with something to lose, and one in it where an archive is unpacked."""
    with tempfile.TemporaryDirectory() as folder:
        outside = Path(folder).resolve()
        (outside / "victim").write_bytes(b"precious")
        (outside / "inner").mkdir()
        (outside / "inner" / "victim").write_bytes(b"precious")
        yield outside, outside / "inner"


def unpack(content: bytes, outside: Path, inner: Path) -> dict[str, bytes | str] | Refused:
    """Return what lies in the folder afterwards; the test fails if anything else has changed."""
    archive, into = inner / "archive", inner / "out"
    archive.write_bytes(content)
    before = seen(outside)
    told = answer(lambda: extract(archive, into), DatasetInvalid)
    if isinstance(told, Refused):
        assert str(archive) in told
        assert seen(outside) == before
        return told
    found = seen(into)
    after = seen(outside)
    assert after == {
        **before,
        "inner/out": oct(stat.S_IFDIR),
        **{f"inner/out/{name}": own for name, own in found.items()},
    }
    return found


def wanted(members: list[Member]) -> dict[str, bytes | str]:
    """Return what lies in the folder if every member is there."""
    found: dict[str, bytes | str] = {}
    for member in members:
        parts = member.parts()
        is_file = member.kind == "file"
        folders = range(1, len(parts) + (not is_file))
        found |= {"/".join(parts[:depth]): oct(stat.S_IFDIR) for depth in folders}
        if is_file:
            found["/".join(parts)] = member.content
    return found


@given(members(NAMES, "file", "file", "file", "folder", *KINDS), st.sampled_from(FORMATS))
@settings(max_examples=150)
def test_no_member_is_written_outside_and_all_are_there_or_none(members: list[Member], form: str) -> None:
    with place() as (outside, inner):
        members = [named for member in members for named in as_read(member, form, outside)]
        assume(members)
        found = unpack(archived(members, form), outside, inner)
        if any(member.harmful for member in members):
            assert isinstance(found, Refused)
            assert "; nothing was unpacked" in found
        elif not isinstance(found, Refused):
            assert found == wanted(members)


@given(st.dictionaries(PLAIN, st.binary(max_size=2_000), min_size=1, max_size=5), st.sampled_from(FORMATS))
def test_sound_archives_are_unpacked_completely(files: dict[str, bytes], form: str) -> None:
    names = set(files)
    assume(not any(name.startswith(f"{other}/") for name in names for other in names))
    members = [Member(name, "file", content) for name, content in files.items()]
    with place() as (outside, inner):
        assert unpack(archived(members, form), outside, inner) == wanted(members)


SOUND = [
    Member("a/one.txt", "file", b"1" * 100),
    Member("b", "folder", b""),
    Member("b/two.txt", "file", bytes(range(256))),
]


@st.composite
def damage(draw: st.DrawFn, sound: bytes) -> bytes:
    """Draw what may become of some bytes: a few changed, some lost or added at the end."""
    content = bytearray(sound)
    for offset in draw(st.lists(st.integers(0, len(content) - 1), max_size=3)):
        content[offset] = draw(st.integers(0, 255))
    end = draw(st.none() | st.integers(0, len(content)))
    return bytes(content + draw(st.binary(max_size=5)) if end is None else content[:end])


@pytest.mark.parametrize("form", FORMATS)
@given(data=st.data())
def test_a_damaged_archive_is_refused_or_unpacked_to_the_last_file(form: str, data: st.DataObject) -> None:
    if form == "zip" or data.draw(st.booleans()):
        damaged = data.draw(damage(archived(SOUND, form)))
    else:
        damaged = COMPRESS[form](data.draw(damage(tarred(SOUND))))
    with place() as (outside, inner):
        found = unpack(damaged, outside, inner)
    # A name may have changed, in a zip a file into a folder too; a plain tar has no checksums of contents either.
    if form == "zip":
        assert isinstance(found, Refused) or len(found) >= len(SOUND)
    else:
        assert isinstance(found, Refused) or sum(isinstance(own, bytes) for own in found.values()) == 2


@pytest.mark.parametrize("form", COMPRESS)
def test_a_tar_that_ends_with_any_of_its_blocks_is_refused_or_complete(form: str) -> None:
    sound = tarred(SOUND)
    for end in range(0, len(sound), tarfile.BLOCKSIZE):
        with place() as (outside, inner):
            found = unpack(COMPRESS[form](sound[:end]), outside, inner)
        assert isinstance(found, Refused) or found == wanted(SOUND)


@pytest.mark.parametrize(
    "damage", ["the directory is 0 bytes long", "its first member has a comment as long as the rest"]
)
def test_a_zip_whose_directory_lost_members_is_refused(damage: str) -> None:
    content = bytearray(archived(SOUND, "zip"))
    if "0 bytes" in damage:
        content[-10:-6] = bytes(4)
    else:
        first = int.from_bytes(content[-6:-2], "little")
        own = 46 + len(SOUND[0].name)
        content[first + 32 : first + 34] = (len(content) - 22 - first - own).to_bytes(2, "little")
    with place() as (outside, inner):
        assert isinstance(unpack(bytes(content), outside, inner), Refused)


def test_a_zip_whose_directory_lies_elsewhere_is_told_to_be_damaged() -> None:
    content = bytearray(archived(SOUND, "zip"))
    content[-5] += 2
    with place() as (outside, inner):
        assert isinstance(unpack(bytes(content), outside, inner), Refused)


@given(st.binary(max_size=600) | st.binary(max_size=50).map(lambda tail: b"PK\x03\x04" + tail))
def test_what_is_no_archive_is_refused(content: bytes) -> None:
    with place() as (outside, inner):
        assert isinstance(unpack(content, outside, inner), Refused)
