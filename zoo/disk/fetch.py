"""Downloads: they go on where they broke off, are verified, and appear under their name complete or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
import time
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlsplit

from zoo.disk.files import sha256 as digest_of
from zoo.disk.files import sync_folder, write_json
from zoo.errors import DatasetInvalid, EnvironmentBroken, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TIMEOUT_S = 30.0
BACKOFF_S = (0.5, 1.0, 2.0)
"""Pauses before another try; they begin anew whenever a try brought a megabyte."""
CHUNK = 1 << 20


class _Dropped(Exception):
    """The server went away or asked for patience; what came before that was kept."""


@dataclass(frozen=True)
class _Version:
    """Which state of which file a `.part` is the beginning of."""

    url: str
    etag: str = ""
    modified: str = ""
    total: int = 0
    """0 if the server did not say."""

    @classmethod
    def read(cls, note: Path) -> _Version | None:
        try:
            known = json.loads(note.read_text())
            version = cls(**{field.name: known[field.name] for field in fields(cls)})
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return version if isinstance(version.total, int) else None

    def continues(self, other: _Version) -> bool:
        """Tell whether nothing speaks against `other` being the same state of the file."""
        pairs = ((self.etag, other.etag), (self.modified, other.modified), (self.total, other.total))
        return all(one == another for one, another in pairs if one and another)


@dataclass
class _Transfer:
    """A file on its way."""

    url: str
    file: BinaryIO
    """The `.part`, open for appending."""
    note: Path
    progress: Callable[[int, int], None]
    will_be_verified: bool


def download(url: str, into: Path, *, sha256: str = "", progress: Callable[[int, int], None] | None = None) -> Path:
    """Bring the file at `url` to `into`, or leave what is there if it fits; a broken download goes on next time.

    Args:
        url: Of http or https, also after redirects.
        into: The file; what came so far stands beside it with `.part` at the end.
        sha256: What its content must have; without one, only the length that the server tells is verified.
        progress: Called with the bytes so far and in all (0 if unknown); by default a line on a terminal.

    Raises:
        DatasetInvalid: out of reach, refused, broken off again and again, or not what the checksum promises.
        EnvironmentBroken: the disk is full or cannot be written.
    """
    _refuse_other_schemes(url)
    part, note = (into.with_name(into.name + suffix) for suffix in (".part", ".part.json"))
    line = _Line(into.name)
    try:
        if into.is_file() and (not sha256 or digest_of(into) == sha256.lower()):
            return into
        into.parent.mkdir(parents=True, exist_ok=True)
        with _alone(part) as file, contextlib.closing(line):
            _fetch(_Transfer(url, file, note, progress or line, bool(sha256)))
            file.flush()
            os.fsync(file.fileno())
        note.unlink(missing_ok=True)
        _verify(url, part, into, sha256)
        part.replace(into)
        sync_folder(into.parent)
    except OSError as exc:
        raise EnvironmentBroken(
            f"cannot write {into}: {exc.strerror or exc}; free space or choose another place"
        ) from exc
    return into


def _refuse_other_schemes(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or not url.isprintable() or " " in url:
        raise DatasetInvalid(f"{url!r} is no address to download from; give one that begins with https:// or http://")


@contextlib.contextmanager
def _alone(part: Path) -> Iterator[BinaryIO]:
    """Open `part` for appending, in no more than one process."""
    with part.open("ab") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever held it may have finished since we opened it: then it is the final file that we hold.
            busy = not (part.exists() and os.path.samestat(os.fstat(file.fileno()), part.stat()))
        except BlockingIOError:
            busy = True
        except (ImportError, OSError):  # no such system, or a file system without locks
            busy = False
        if busy:
            raise DatasetInvalid(f"another process downloads {part}; wait until it is done, then try again")
        try:
            yield file
        except BaseException:
            if not os.fstat(file.fileno()).st_size:
                part.unlink(missing_ok=True)
            raise


def _verify(url: str, part: Path, into: Path, sha256: str) -> None:
    got = digest_of(part) if sha256 else ""
    if got != sha256.lower():
        bad = into.with_name(f"{into.name}.bad")
        part.replace(bad)
        raise DatasetInvalid(
            f"{url} has the wrong checksum: expected SHA-256 {sha256.lower()}, got {got}; it was moved to {bad}; "
            "try again, and if that does not help, the file at its source has changed"
        )


def _fetch(transfer: _Transfer) -> None:
    """Try until the file is complete, as long as there is hope."""
    tries, furthest = 0, 0
    while True:
        try:
            _try(transfer)
            return
        except _Dropped as exc:
            have = transfer.file.seek(0, os.SEEK_END)
            if have >= furthest + 10**6:
                tries, furthest = 0, have
            if tries == len(BACKOFF_S):
                raise DatasetInvalid(
                    f"{transfer.url} broke off {tries + 1} times, the last time after {size_text(have)} ({exc}); "
                    "try again later, it goes on from there if the server can"
                ) from exc
            time.sleep(BACKOFF_S[tries])
            tries += 1


def _try(transfer: _Transfer) -> None:
    file, known = transfer.file, _Version.read(transfer.note)
    have = file.seek(0, os.SEEK_END)
    if have and known and have == known.total and known.url == transfer.url:
        return
    if not known or not _may_go_on(transfer, known, have):
        known, have = None, 0
    response = _ask(transfer.url, have, known)
    if response is None:
        _start_over(transfer)
        return
    with response:
        if response.status == 206:
            begin, total = _content_range(response.headers.get("Content-Range", ""))
            fits = begin == have and (not known or known.continues(_version(transfer.url, response, total)))
            if not fits and have:
                _start_over(transfer)
                return
            if not fits:
                raise DatasetInvalid(f"{transfer.url} answers with a part that nobody asked for; try another address")
        elif response.status == 200:
            have, total = 0, response.length or 0
        else:
            raise DatasetInvalid(f"{transfer.url} answers {response.status} without a file; check the address")
        if not have:
            file.truncate(0)
            write_json(transfer.note, asdict(_version(transfer.url, response, total)))
        refuse_if_full(total - have, transfer.note.parent)
        _receive(transfer, response, have, total)


def _may_go_on(transfer: _Transfer, known: _Version, have: int) -> bool:
    # Without a name for the file's state, only a checksum could tell that its halves do not belong together.
    recognised = bool(known.etag or known.modified or transfer.will_be_verified)
    return known.url == transfer.url and recognised and (not known.total or have < known.total)


def _start_over(transfer: _Transfer) -> None:
    transfer.file.truncate(0)
    transfer.note.unlink(missing_ok=True)
    _try(transfer)


def _ask(url: str, have: int, known: _Version | None) -> Any:
    """Return the answer; None if the server has nothing from `have` on."""
    import http.client
    import urllib.error
    import urllib.request

    class Redirects(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *arguments: Any) -> urllib.request.Request | None:
            try:
                _refuse_other_schemes(arguments[-1])
            except DatasetInvalid:
                arguments[1].close()
                raise
            return super().redirect_request(*arguments)

    request = urllib.request.Request(url, headers={"User-Agent": "edgezoo", "Accept-Encoding": "identity"})
    if have and known:
        request.add_header("Range", f"bytes={have}-")
        state = known.modified if known.etag.startswith("W/") else known.etag or known.modified
        if state:
            request.add_header("If-Range", state)
    try:
        return urllib.request.build_opener(Redirects).open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as exc:
        exc.close()
        if exc.code == 416 and have:
            return None
        said = f"answers {exc.code} {first_line(Exception(exc.reason))}"
        if exc.code >= 500 or exc.code in (408, 429):
            raise _Dropped(f"it {said}") from exc
        raise DatasetInvalid(f"{url} {said}; check the address") from exc
    except (OSError, http.client.HTTPException) as exc:
        raise _no_answer(url, exc) from exc


def _no_answer(url: str, exc: Exception) -> Exception:
    """Tell a server that hung up, and may be asked again, from one that was not reached at all."""
    import urllib.error

    if not isinstance(exc, urllib.error.URLError):
        return _Dropped(first_line(exc))
    if isinstance(exc.reason, ConnectionResetError | BrokenPipeError):
        return _Dropped(first_line(exc.reason))
    why = getattr(exc.reason, "strerror", None) or first_line(Exception(exc.reason))
    return DatasetInvalid(f"{url} cannot be reached ({why}); check the network and try again")


def _version(url: str, response: Any, total: int) -> _Version:
    headers = response.headers
    return _Version(url, headers.get("ETag", ""), headers.get("Last-Modified", ""), total)


def _content_range(header: str) -> tuple[int, int]:
    """Return where a part begins, and the whole file's length (0 if unknown); -1 if it does not say."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", header.strip())
    return (int(found[1]), 0 if found[2] == "*" else int(found[2])) if found else (-1, 0)


def _receive(transfer: _Transfer, response: Any, have: int, total: int) -> None:
    import http.client

    while not total or have < total:
        transfer.progress(have, total)
        try:
            # Not `read`: it would lose what had come when the connection broke.
            data = response.read1(min(CHUNK, total - have) if total else CHUNK)
        except (OSError, http.client.HTTPException) as exc:
            raise _Dropped(first_line(exc)) from exc
        if not data:
            break
        transfer.file.write(data)
        have += len(data)
    transfer.file.flush()
    if have < total:
        raise _Dropped(f"{have} of {total} bytes came")
    transfer.progress(have, total)


class _Line:
    """One line on a terminal that tells how far a download is; nothing where nobody looks."""

    def __init__(self, name: str) -> None:
        self.name, self.begun, self.first, self.shown = name, time.monotonic(), -1, 0.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self.first < 0:
            self.first = done
        if not sys.stderr.isatty() or (now - self.shown < 0.2 and done != total):
            return
        self.shown = now
        rate = max(done - self.first, 1) / max(now - self.begun, 1e-3)
        left = f", {(total - done) / rate:.0f} s left" if total else ""
        text = f"{self.name}: {done / 1e6:.1f} of {total / 1e6:.1f} MB, {rate / 1e6:.1f} MB/s{left}"
        print(f"\r{text:<78}", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.shown:
            print(file=sys.stderr)


def size_text(count: int) -> str:
    """Return a number of bytes as people say it."""
    return f"{count / 1e9:.1f} GB" if count >= 10**9 else f"{count / 1e6:.1f} MB"


def refuse_if_full(needed: int, place: Path) -> None:
    """Raise EnvironmentBroken where `needed` bytes find no room."""
    free = shutil.disk_usage(place).free
    if needed > free:
        raise EnvironmentBroken(
            f"{place} needs {size_text(needed)} and has {size_text(free)} free; free space or choose another place"
        )
