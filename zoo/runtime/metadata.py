"""The notes in an ONNX file, read without the onnx package: the top of its protobuf, and the graph passed over."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

METADATA_PROPS = 14
"""The field's number in ONNX's ModelProto; each of its entries has a key (1) and a value (2)."""
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
