"""The notes in an ONNX file, read without the onnx package: the top of its protobuf, and the graph passed over."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IR_VERSION, OPSET_IMPORT, METADATA_PROPS = 1, 8, 14
"""Fields of ONNX's ModelProto. An opset has a domain (1) and a version (2), a note has a key (1) and a value (2)."""
MOST_BYTES = 65536
"""A longer entry is none of ours."""
SKIPPED = {0: 0, 1: 8, 5: 4}
"""Wire type -> the bytes that follow the key, in protobuf's encoding; 2 tells its own length, 3 and 4 have gone."""


def metadata(model_file: Path) -> dict[str, str]:
    """Return the file's `metadata_props`; what a damaged file still tells, which may be nothing.

    Raises:
        OSError: the file cannot be read.
    """
    with model_file.open("rb") as file:
        entries = list(_contents(file, METADATA_PROPS))
    return {_text(entry, 1): _text(entry, 2) for entry in entries}


def model_versions(model_file: Path) -> tuple[int, int]:
    """Return the file's IR version and the opset of ONNX's own operators; 0 for what a damaged file does not tell.

    Raises:
        OSError: the file cannot be read.
    """
    with model_file.open("rb") as file:
        found = _numbers(file, IR_VERSION)
        file.seek(0)
        imports = [(_text(entry, 1), _numbers(io.BytesIO(entry), 2)) for entry in _contents(file, OPSET_IMPORT)]
    own = [numbers for domain, numbers in imports if domain in ("", "ai.onnx")]
    return max(found, default=0), max((number for numbers in own for number in numbers), default=0)


def _numbers(file: BinaryIO, wanted: int) -> list[int]:
    """Return the whole numbers of the fields numbered `wanted`."""
    found = []
    while (key := varint(file)) is not None:
        number, wire = key >> 3, key & 7
        value = varint(file) if wire in (0, 2) else SKIPPED.get(wire)
        if value is None:
            break
        if wire == 0 and number == wanted:
            found.append(value)
        file.seek(0 if wire == 0 else value, io.SEEK_CUR)
    return found


def _text(entry: bytes, number: int) -> str:
    return b"".join(_contents(io.BytesIO(entry), number)).decode(errors="replace")


def _contents(file: BinaryIO, wanted: int) -> Iterator[bytes]:
    """Yield what the fields numbered `wanted` hold, as long as the bytes make sense."""
    while (key := varint(file)) is not None:
        number, wire = key >> 3, key & 7
        length = varint(file) if wire in (0, 2) else SKIPPED.get(wire)
        if length is None:
            return
        if wire == 2 and number == wanted and length <= MOST_BYTES:
            yield file.read(length)
        else:
            file.seek(0 if wire == 0 else length, io.SEEK_CUR)


def varint(file: BinaryIO) -> int | None:
    """Read one whole number in protobuf's encoding; None if the file ends before it does."""
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    return None
