"""Tar shards wherever fsspec finds them: their addresses, their state, and their bytes by range."""

from __future__ import annotations

import contextlib
import itertools
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import DatasetInvalid, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d+)\.\.(\d+)")
MAGIC = re.compile(r"[*?[]")
MOST_SHARDS = 1_000_000
BACKOFF_S = (0.5, 1.0, 2.0)
"""Pauses before another try: a connection may break in the middle of a night's training."""
STATE_KEYS = ("ETag", "etag", "md5Hash", "Content-MD5", "Last-Modified", "LastModified", "last_modified", "mtime")
"""What file systems call the things that change with a file's content."""
FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, ImportError, ValueError, TypeError, NotImplementedError)
"""Errors that another try would meet again."""


@dataclass(frozen=True)
class Shard:
    """One tar file, and what its place tells of its version."""

    address: str
    size: int
    state: tuple[str, ...]


def expand(text: str) -> list[str]:
    """Return the addresses that a text stands for: comma-separated; `{000..012}`, `{a,b}` and patterns spelled out.

    Raises:
        DatasetInvalid: a brace that is no range, a pattern that fits nothing, or an address that comes twice.
    """
    parts = [part.strip() for part in re.split(r",(?![^{}]*\})", text)]
    braced = itertools.chain.from_iterable(_without_braces(part, text) for part in parts if part)
    found = [address for part in itertools.islice(braced, MOST_SHARDS) for address in _without_patterns(part)]
    if not found:
        raise DatasetInvalid(f"{text!r} names no shard; write for example data/train-{{000..012}}.tar")
    if len(set(found)) < len(found):
        twice = next(address for number, address in enumerate(found) if address in found[:number])
        raise DatasetInvalid(f"{twice} is named twice in {text!r}; name each shard once")
    return found


def _without_braces(part: str, text: str) -> list[str]:
    braces = BRACES.search(part)
    if not braces:
        if "{" in part or "}" in part:
            raise DatasetInvalid(f"{text!r} has a brace without its other half; write for example {{000..012}}")
        return [part]
    choices = _choices(braces[1], text)
    return [
        done
        for choice in choices
        for done in _without_braces(part[: braces.start()] + choice + part[braces.end() :], text)
    ]


def _choices(inside: str, text: str) -> list[str]:
    """Return what stands for `000..012` or `a,b`."""
    ends = RANGE.fullmatch(inside)
    if not ends:
        if "," in inside:
            return [choice.strip() for choice in inside.split(",")]
        raise DatasetInvalid(f"{{{inside}}} in {text!r} is no range; write for example {{000..012}} or {{a,b}}")
    first, last = int(ends[1]), int(ends[2])
    if not 0 <= last - first < MOST_SHARDS:
        raise DatasetInvalid(f"{{{inside}}} in {text!r} counts down or too far; write it as {{000..012}}")
    width = len(ends[1]) if ends[1].startswith("0") else 0
    return [f"{number:0{width}d}" for number in range(first, last + 1)]


def _without_patterns(address: str) -> list[str]:
    local = _is_local(address)
    if local:
        try:
            path = Path(address).expanduser().absolute()
        except RuntimeError as exc:  # an unknown user
            raise DatasetInvalid(f"{address} cannot be found: {exc}; write the whole path") from exc
        address = str(path)
        if path.exists() or not MAGIC.search(address):
            return [address]
    elif "*" not in address or address.startswith(("http://", "https://")):
        return [address]
    with _told(address):
        place, pattern = _file_system(address)
        found = sorted(place.glob(pattern))
    if not found:
        raise DatasetInvalid(f"{address} fits no file; check the path")
    return found if local else [place.unstrip_protocol(name) for name in found]


def _is_local(address: str) -> bool:
    """Tell a path from an address that names its protocol."""
    return "://" not in address and "::" not in address


def look(address: str) -> Shard:
    """Ask for a shard's size and version; none of its content is fetched.

    Raises:
        DatasetInvalid: an unknown protocol, out of reach, or no file that can be read in parts.
    """
    with _told(address):
        place, path = _file_system(address)
        info = _patiently(lambda: place.info(path))
    if info.get("type") == "directory":
        raise DatasetInvalid(f"{address} is a folder, not a shard; write for example {address.rstrip('/')}/*.tar")
    if not isinstance(info.get("size"), int) or info.get("partial") is False:
        raise _without_ranges(address)
    state = [str(info[key]) for key in STATE_KEYS if info.get(key)] or [str(info.get("created", ""))]
    return Shard(address, info["size"], tuple(state))


def read(address: str, start: int, end: int) -> bytes:
    """Return the bytes from `start` up to `end`; from any thread.

    Raises:
        DatasetInvalid: out of reach after several tries, or the file is shorter than it was.
    """
    if start >= end:
        return b""
    with _told(address):
        place, path = _file_system(address)
        data: bytes = _patiently(lambda: place.cat_file(path, start=start, end=end))
    if len(data) > end - start:
        raise _without_ranges(address)
    if len(data) < end - start:
        raise DatasetInvalid(f"{address} ends before byte {end}: it has changed while it was read; start again")
    return data


def _file_system(address: str) -> tuple[Any, str]:
    """Return what fsspec keeps for this thread, or for all where they may share it: asking again costs little."""
    from fsspec.core import url_to_fs

    place, path = url_to_fs(address)
    return place, path


def _patiently(ask: Callable[[], Any]) -> Any:
    for pause in BACKOFF_S:
        try:
            return ask()
        except FINAL as exc:
            if not isinstance(exc.__cause__, OSError) or isinstance(exc.__cause__, FINAL):
                raise
        except Exception:  # every protocol has its own kinds of broken connections
            pass
        time.sleep(pause)
    return ask()


@contextlib.contextmanager
def _told(address: str) -> Iterator[None]:
    """Turn whatever a file system raises into one line that names the address."""
    try:
        yield
    except DatasetInvalid:
        raise
    except Exception as exc:
        raise DatasetInvalid(f"{address} {_why(exc)}") from exc


def _why(exc: Exception) -> str:
    if isinstance(exc, ImportError):
        return f"needs a package that is not installed; fsspec says: {first_line(exc)}"
    if isinstance(exc, ValueError) and "rotocol" in str(exc):
        return f"cannot be read ({first_line(exc)}); write a path, or an address of http, s3, gs or what fsspec knows"
    # A web server's refusal and one that never answered both come as FileNotFoundError; the cause tells which it was.
    reason = exc.__cause__ or exc
    if isinstance(reason, FileNotFoundError):
        return "does not exist; check the address"
    status = getattr(reason, "status", None)
    told = f"it answers {status}" if status else getattr(reason, "strerror", None) or first_line(reason)
    return f"cannot be read ({told}); check the address and the network"


def _without_ranges(address: str) -> DatasetInvalid:
    return DatasetInvalid(
        f"{address} is on a server that does not send parts of files (HTTP ranges); download it and name the file"
    )
