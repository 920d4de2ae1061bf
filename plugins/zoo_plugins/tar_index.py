"""Where each sample of a tar shard lies: read once from its headers and labels, then kept."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import os
import re
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import DatasetInvalid, EnvironmentBroken, first_line
from zoo_plugins.tar_shards import Shard, look, read

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

RULES = 1
"""Counts up when the same shard would be indexed otherwise."""
MEMBER = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)", re.DOTALL)
"""Key and extension as webdataset splits them: at the first dot of the file's name."""
NUMBER = re.compile(r"-?\d{1,18}")
SMALLEST_WINDOW, LARGEST_WINDOW = 1 << 14, 1 << 22
LARGEST_TEXT = 1 << 24
"""Of labels and extended headers: more is a mistake, or malice."""
COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d": "lz4",
}


@dataclass(frozen=True)
class Wanted:
    """Which members of a sample are its image and its label."""

    images: tuple[str, ...]
    """Extensions in lower case; the first that a sample has is taken."""
    label: str
    """The extension of the member with the label."""
    key: str = ""
    """Of the label in that member, which is JSON then."""
    separator: str = ""
    """Between several labels in a text."""


@dataclass(frozen=True)
class Index:
    """A shard's samples, in its order."""

    address: str
    offsets: list[int]
    """Of each image, in bytes from the shard's beginning."""
    sizes: list[int]
    members: list[str]
    """Each image's name in the shard."""
    labels: list[Any]
    """Each a text, or a list of texts where a sample may have several labels."""


@dataclass(frozen=True)
class _Member:
    name: str
    key: str
    suffix: str
    offset: int
    size: int
    text: bytes = b""
    """The content, of a label."""


def index_of(address: str, wanted: Wanted, root: Path) -> Index:
    """Return a shard's index: the one below `root` if the shard is still the same, else a new one, kept there.

    Raises:
        DatasetInvalid: out of reach, damaged, compressed, or a sample that lacks its image or its label.
    """
    shard = look(address)
    facts = [RULES, address, [*wanted.images], wanted.label, wanted.key, wanted.separator]
    file = root / f"{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]}.json"
    version = [*facts, shard.size, [*shard.state]]
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(file.read_text())
        if kept["version"] == version:
            return Index(address, *(kept[name] for name in ("offsets", "sizes", "members", "labels")))
    index = _read_index(shard, wanted)
    facts_of_it = {name: value for name, value in vars(index).items() if name != "address"}
    _keep(file, json.dumps({"version": version, **facts_of_it}))
    return index


def _keep(file: Path, text: str) -> None:
    """Write the file whole, or not at all."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, prefix=".index.", delete=False) as part:
            try:
                part.write(text)
                part.flush()
                os.fsync(part.fileno())
                Path(part.name).replace(file)
            except BaseException:
                Path(part.name).unlink(missing_ok=True)
                raise
    except OSError as exc:
        raise EnvironmentBroken(
            f"cannot write in {file.parent}: {exc.strerror or exc}; free space or choose another place"
        ) from exc


class Window(io.RawIOBase):
    """A shard as a file that fetches what is read of it, and a little ahead.

    After a leap over an image little is fetched, as the next leap is near; where images are small the window grows, as
    one long answer comes sooner than many short ones.
    """

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.place = self.start = 0
        self.data = b""
        self.ahead = SMALLEST_WINDOW

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a byte; nothing is fetched."""
        self.place = {os.SEEK_SET: 0, os.SEEK_CUR: self.place, os.SEEK_END: self.shard.size}[whence] + offset
        return self.place

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self.place

    def read(self, size: int = -1) -> bytes:
        """Return `size` bytes, fewer at the end."""
        if not 0 <= size <= LARGEST_TEXT:
            raise tarfile.ReadError(f"a header or a label of {size} bytes")
        start, end = self.place, min(self.place + size, self.shard.size)
        if start >= end:
            return b""
        if start < self.start or end > self.start + len(self.data):
            self._fetch(start, end)
        self.place = end
        return self.data[start - self.start : end - self.start]

    def _fetch(self, start: int, end: int) -> None:
        is_near = self.start <= start <= self.start + len(self.data) + self.ahead
        self.ahead = min(2 * self.ahead, LARGEST_WINDOW) if is_near and start else SMALLEST_WINDOW
        self.data = read(self.shard.address, start, min(max(end, start + self.ahead), self.shard.size))
        self.start = start


def _read_index(shard: Shard, wanted: Wanted) -> Index:
    index = Index(shard.address, [], [], [], [])
    keys: set[str] = set()
    for key, group in itertools.groupby(_members(shard, wanted), key=lambda member: member.key):
        sample = list(group)
        if key in keys or len({member.suffix for member in sample}) < len(sample):
            raise DatasetInvalid(
                f"{shard.address} holds {sample[-1].name!r} of a sample that was there before; keep one of them, and "
                "the members of a sample together"
            )
        keys.add(key)
        image = _image(shard, sample, wanted)
        index.offsets.append(image.offset)
        index.sizes.append(image.size)
        index.members.append(image.name)
        index.labels.append(_label(shard, sample, wanted))
    if not keys:
        raise DatasetInvalid(f"{shard.address} holds no sample; name a shard with images in it")
    return index


def _members(shard: Shard, wanted: Wanted) -> Iterator[_Member]:
    """Yield the files of a shard that belong to samples."""
    window = Window(shard)
    _refuse_compressed(shard, window.read(8))
    window.seek(0)
    try:
        with tarfile.open(fileobj=window, mode="r:") as tar:
            for found in _entries(tar):
                parts = MEMBER.fullmatch(found.name)
                if not parts or not found.isreg() or re.fullmatch(r"__[^/]*__", found.name):
                    continue
                if found.issparse():
                    raise DatasetInvalid(f"{shard.address} holds {found.name!r} with holes; pack it without --sparse")
                suffix = parts[2].lower()
                text = _text(window, found) if suffix == wanted.label else b""
                yield _Member(found.name, parts[1], suffix, found.offset_data, found.size, text)
            _check_end(shard, window, tar.offset)
    except (DatasetInvalid, GeneratorExit):
        raise
    except Exception as exc:  # hostile headers make tarfile raise anything
        raise DatasetInvalid(
            f"{shard.address} is no tar file, or truncated or damaged near byte {window.tell()} ({first_line(exc)}); "
            "write it again"
        ) from exc


def _entries(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the entries one after the other, without tarfile's memory of all that came before."""
    before = -1
    while (found := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined]
        # Pythons without the mend of CVE-2025-8194 go back then, and round in circles.
        if found.offset <= before or found.size < 0:
            raise tarfile.ReadError(f"{found.name!r} has a length below 0")
        before = found.offset
        yield found


def _text(window: Window, found: tarfile.TarInfo) -> bytes:
    window.seek(found.offset_data)
    return window.read(found.size)


def _refuse_compressed(shard: Shard, begin: bytes) -> None:
    for magic, name in COMPRESSED.items():
        if begin.startswith(magic):
            raise DatasetInvalid(
                f"{shard.address} is compressed ({name}), so no image in it can be read alone; unpack it to a .tar"
            )


def _check_end(shard: Shard, window: Window, end: int) -> None:
    """Look at what stands where the headers end: tarfile takes a damaged header for the end of the archive."""
    window.seek(end)
    tail = window.read(2 * tarfile.RECORDSIZE)
    if len(tail) < tarfile.BLOCKSIZE:
        raise DatasetInvalid(
            f"{shard.address} is truncated: it ends at byte {shard.size} without an end mark; write it again"
        )
    if any(tail[: tarfile.BLOCKSIZE]):
        raise DatasetInvalid(f"{shard.address} is damaged: no header at byte {end}, where one is due; write it again")
    if any(tail):
        raise DatasetInvalid(
            f"{shard.address} holds more after its end mark at byte {end}; name each joined tar file alone"
        )


def _image(shard: Shard, sample: list[_Member], wanted: Wanted) -> _Member:
    by_suffix = {member.suffix: member for member in sample}
    image = next((by_suffix[suffix] for suffix in wanted.images if suffix in by_suffix), None)
    if image is None:
        raise DatasetInvalid(
            f"{shard.address} holds a sample without an image: {_listed(sample)}; "
            f"add one of {';'.join(wanted.images)}, or name its extension with image="
        )
    if image.offset + image.size > shard.size:
        raise DatasetInvalid(f"{shard.address} is truncated in {image.name!r}; write it again")
    return image


def _label(shard: Shard, sample: list[_Member], wanted: Wanted) -> str | list[str]:
    member = next((member for member in sample if member.suffix == wanted.label), None)
    if member is None:
        raise DatasetInvalid(
            f"{shard.address} holds a sample without a label: {_listed(sample)}; add a .{wanted.label}, or name "
            "what holds it with label="
        )
    try:
        text = member.text.decode("utf-8-sig").strip()
        value = json.loads(text)[wanted.key] if wanted.key else text
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as exc:
        told = f"JSON with a key {wanted.key!r}" if wanted.key else "text in UTF-8"
        raise _no_label(shard, member, f"is no {told}") from exc
    if wanted.separator and isinstance(value, str):
        value = [part for part in value.split(wanted.separator if wanted.separator.strip() else None)] if value else []
    several = isinstance(value, list)
    values = [_class_text(one, is_json=bool(wanted.key)) for one in (value if several else [value])]
    if not all(values):
        raise _no_label(shard, member, f"holds {json.dumps(value)[:80]}, which is no class's name or number")
    return values if several else values[0]


def _class_text(value: object, *, is_json: bool) -> str:
    """Return a label as text, a number without zeros before it; empty for what can be no label."""
    if isinstance(value, str) and not is_json and NUMBER.fullmatch(value.strip()):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if value >= 0 else ""
    return value.strip() if isinstance(value, str) else ""


def _no_label(shard: Shard, member: _Member, why: str) -> DatasetInvalid:
    return DatasetInvalid(f"{shard.address} member {member.name!r} {why}; mend it, or name another with label=")


def _listed(sample: Iterable[_Member]) -> str:
    return ", ".join(repr(member.name) for member in sample)[:200]
