"""An archive that differs from what was written by a single bit is refused, and so is any that others wrote."""

from __future__ import annotations

import gzip
import io
import random
import struct
import tarfile
import zlib
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from zoo.deploy.bundle.archive import GZIP, read_archive, write_archive
from zoo.errors import ArtifactInvalid

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILES = {"a.txt": b"", "b/c.py": b"print()\n" * 90, "model.onnx": random.Random(0).randbytes(3000)}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    write_archive(tmp_path / "x.tar.gz", "folder", FILES)
    return tmp_path / "x.tar.gz"


def sealed(tar: bytes) -> bytes:
    """The container that bundles have around any content: an attacker can compute a checksum too."""
    pack = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = pack.compress(tar) + pack.flush() + struct.pack("<II", zlib.crc32(tar), len(tar) & 0xFFFFFFFF)
    return GZIP + sha256(packed).digest() + packed


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    return info, b"x" if kind == tarfile.REGTYPE else b""


def test_what_was_written_is_read(archive: Path) -> None:
    assert read_archive(archive) == ("folder", FILES)


def test_others_read_it_too(archive: Path) -> None:
    with tarfile.open(archive) as tar:
        assert {m.name: tar.extractfile(m).read() for m in tar} == {f"folder/{n}": c for n, c in FILES.items()}  # type: ignore[union-attr]
        assert {(m.mode, m.mtime, m.uid, m.uname) for m in tar} == {(0o644, 0, 0, "")}


def test_the_same_files_give_the_same_bytes(archive: Path, tmp_path: Path) -> None:
    write_archive(tmp_path / "y.tar.gz", "folder", dict(reversed(FILES.items())))
    assert (tmp_path / "y.tar.gz").read_bytes() == archive.read_bytes()


def test_a_changed_bit_anywhere_is_caught(archive: Path) -> None:
    data = archive.read_bytes()
    bits = random.Random(1).sample(range(8 * len(data)), 1800)
    for bit in {*bits, *range(200), *range(8 * len(data) - 200, 8 * len(data))}:
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        archive.write_bytes(changed)
        with pytest.raises(ArtifactInvalid, match="copy it once more"):
            read_archive(archive)


@pytest.mark.parametrize(
    "change", [lambda d: d[:-1], lambda d: d + b"\0", lambda d: d[:40], lambda d: b"", lambda d: d[: len(d) // 2]]
)
def test_a_cut_or_longer_file_is_caught(archive: Path, change: Callable[[bytes], bytes]) -> None:
    archive.write_bytes(change(archive.read_bytes()))
    with pytest.raises(ArtifactInvalid):
        read_archive(archive)


HOSTILE = {
    "leads out": tar_of(member("folder/../evil")),
    "absolute": tar_of(member("/etc/evil")),
    "symbolic link": tar_of(member("folder/link", tarfile.SYMTYPE, "/etc/passwd")),
    "hard link": tar_of(member("folder/a"), member("folder/b", tarfile.LNKTYPE, "folder/a")),
    "pipe": tar_of(member("folder/pipe", tarfile.FIFOTYPE)),
    "device": tar_of(member("folder/zero", tarfile.CHRTYPE)),
    "folder": tar_of(member("folder/sub", tarfile.DIRTYPE)),
    "set-uid": tar_of(member("folder/su", mode=0o4755)),
    "hidden": tar_of(member("folder/.bashrc")),
    "there twice": tar_of(member("folder/a"), member("folder/a")),
    "another order": tar_of(member("folder/b"), member("folder/a")),
    "two folders": tar_of(member("one/a"), member("two/b")),
    "no folder": tar_of(member("a")),
    "empty": tar_of(),
    "no tar": b"hello" * 500,
    "bomb": bytes(100_000_000),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_archives_are_refused(kind: str, tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_bytes(sealed(HOSTILE[kind]))
    with pytest.raises(ArtifactInvalid) as refused:
        read_archive(tmp_path / "x.tar.gz")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "evil").exists()


def test_the_same_container_takes_what_bundles_have(tmp_path: Path, archive: Path) -> None:
    """Else the test above would prove nothing."""
    archive.write_bytes(sealed(gzip.decompress(archive.read_bytes())))
    assert read_archive(archive) == ("folder", FILES)
