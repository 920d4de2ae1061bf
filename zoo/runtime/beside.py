"""Which files an ONNX file keeps its weights in, read without the onnx package; only one of them is ever opened."""

from __future__ import annotations

import io
import os
import stat
from typing import TYPE_CHECKING, BinaryIO

from .metadata import varint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUFFIX = ".data"
LOCATION = "location"
FIXED = {1: 8, 5: 4}
"""Wire type -> its bytes, in protobuf's encoding; 0 is a varint, 2 tells its own length, 3 and 4 have gone."""
INSIDE = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external_data"},
}
"""The way to every tensor: message -> number of a field -> the message in it, as onnx.proto numbers them."""


def check_beside(model_file: Path) -> None:
    """Refuse a model that keeps weights elsewhere than in the plain file named after it: `model.onnx.data`.

    Raises:
        ValueError: it names another file, or this one is a link, has a second name, or is no file; or it is damaged.
        OSError: a file cannot be read.
    """
    with model_file.open("rb") as file:
        named = sorted(set(_locations(file, "model", os.fstat(file.fileno()).st_size)))
    own = model_file.name + SUFFIX
    for name in named:
        if name != own:
            raise ValueError(f"it keeps weights in {name!r}, and only {own} beside it may be opened")
        found = os.lstat(model_file.with_name(own))
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise ValueError(f"{own} beside it is not a plain file with one name")


def _locations(file: BinaryIO, message: str, end: int) -> Iterator[str]:
    """Yield the places of all weights outside that a message names, in the file's bytes up to `end`."""
    while file.tell() < end:
        key = varint(file) or 0
        number, wire = key >> 3, key & 7
        length = varint(file) if wire in (0, 2) else FIXED.get(wire)
        if length is None:  # onnxruntime may read on where this cannot
            raise ValueError("it is damaged, or no ONNX file")
        after = file.tell() + (0 if wire == 0 else length)
        child = INSIDE[message].get(number) if wire == 2 else None
        if child == "external_data":
            yield from _location(file.read(length))
        elif child:
            yield from _locations(file, child, after)
        file.seek(after)


def _location(entry: bytes) -> Iterator[str]:
    """Yield the value of a StringStringEntryProto whose key says that it is a place."""
    file, texts = io.BytesIO(entry), {}
    while (key := varint(file)) is not None:
        length = varint(file) or 0
        texts[key >> 3] = file.read(length).decode(errors="replace")
    if texts.get(1) == LOCATION:
        yield texts.get(2, "")
