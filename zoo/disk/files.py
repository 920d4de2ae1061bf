"""Writing files so that a name either holds the whole content or what was there before."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from zoo.errors import EnvironmentBroken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def write_atomic(
    path: Path, write: Callable[[BinaryIO], object], *, before: Callable[[], object] = lambda: None
) -> None:
    """Call `write` with an open temporary file beside `path`, flush it to the disk, then rename it to `path`.

    Args:
        path: The file.
        write: Gets the temporary file.
        before: Called when all is on the disk, before the name changes hands.

    Raises:
        EnvironmentBroken: the disk is full or the folder cannot be written; an older `path` is untouched.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        part = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            part.chmod(0o644)
            before()
            part.replace(path)
            sync_folder(path.parent)
        finally:
            part.unlink(missing_ok=True)
    except OSError as exc:
        raise EnvironmentBroken(
            f"cannot write {path}: {exc.strerror or exc}; free space or choose another place"
        ) from exc


def write_json(path: Path, payload: Any) -> None:
    """Write `payload` as indented JSON, atomically; NaN is refused because JSON has none."""
    text = json.dumps(payload, indent=2, allow_nan=False) + "\n"
    write_atomic(path, lambda file: file.write(text.encode()))


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    write_atomic(path, lambda file: file.write(text.encode()))


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` survive a power loss, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def scratch_folder(beside: Path) -> Iterator[Path]:
    """Yield an empty folder on the same disk as `beside`, removed afterwards unless it was renamed away."""
    try:
        beside.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=beside.parent, prefix=f".{beside.name}."))
    except OSError as exc:
        raise EnvironmentBroken(
            f"cannot write in {beside.parent}: {exc.strerror or exc}; choose another place"
        ) from exc
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def replace_folder(new: Path, final: Path) -> None:
    """Put the complete folder `new` under the name `final`; an older one stands until the new one takes its place."""
    old = final.with_name(f".{final.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.replace(old)
    new.replace(final)
    sync_folder(final.parent)
    shutil.rmtree(old, ignore_errors=True)
