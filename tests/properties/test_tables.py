"""Tables of images, for any bytes: a dataset that holds what was written, or one line that names the file."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from zoo.data.tables import SPLIT_OF, csv_dataset
from zoo.errors import DatasetInvalid

from .told import Refused, answer

IMAGES = ("a.png", "b.png", "c d.png", "e;f.png", "g,h.png", "ü.png")
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"label": "cat,dog"},
    {"separator": "|"},
    {"separator": " "},
    {"split": ""},
    {"path": "label", "label": "path"},
    {"split": "fold"},
)
CELLS = st.sampled_from(
    [
        *IMAGES,
        "path",
        "label",
        "split",
        "cat",
        "dog",
        "fold",
        "Path",
        "train",
        "val",
        "test",
        "0",
        "1",
        "a|b",
        "",
        " ",
        ".",
        "..",
        '"a',
    ]
) | st.text(max_size=5)
WRITTEN = st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=6)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table beside a few images."""
    folder = tmp_path_factory.mktemp("tables")
    for name in IMAGES:
        (folder / name).touch()
    return folder / "labels.csv"


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """Draw something like a table: a header of which one may be asked for, lines, some of them odd."""
    delimiter, end = draw(st.sampled_from(",;\t")), draw(st.sampled_from(["\n", "\r\n", "\r"]))
    header = draw(st.sampled_from([["path", "label"], ["path", "label", "split"], ["path", "cat", "dog"], []]))
    width = len(header) or 2
    rows = draw(st.lists(st.lists(CELLS, min_size=width, max_size=width), max_size=6)) + draw(WRITTEN) * draw(
        st.booleans()
    )
    out = io.StringIO()
    all_quoted = draw(st.booleans())
    writer = csv.writer(
        out, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL if all_quoted else csv.QUOTE_MINIMAL
    )
    writer.writerows([*([header] * bool(header)), *rows])
    return out.getvalue().encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-8"])), "replace")


RAW = st.binary(max_size=60) | st.text("pathlabelcsdog01,;\t\"'\r\n\0 .", max_size=60).map(str.encode)


def read(file: Path, content: bytes, **options: Any) -> Any:
    file.write_bytes(content)
    return answer(lambda: csv_dataset(file, **options), DatasetInvalid)


@given(content=tables() | RAW, options=st.sampled_from(OPTIONS))
@example(content=b"path,label\na.png,x\n\0,y", options={})
@example(content=b"path,label\ra.png,x\rb.png,y", options={})
@example(content="path,label\na.png,\x85\nb.png,\u2028".encode(), options={})
@settings(max_examples=200)
def test_any_bytes_are_a_dataset_or_refused_in_one_line(file: Path, content: bytes, options: dict[str, Any]) -> None:
    found = read(file, content, **options)
    if isinstance(found, Refused):
        assert str(file) in found
        return
    assert len(set(found.classes)) == len(found.classes) >= 2
    assert "train" in found.splits
    assert set(found.splits) <= {"train", "val", "test"}
    images = [image for split in found.splits.values() for image in split.images]
    assert all(image.is_file() for image in images)
    assert len(set(images)) == len(images)
    for split in found.splits.values():
        shape = (len(split.images), len(found.classes)) if found.multi_label else (len(split.images),)
        assert split.labels.shape == shape
        assert split.labels.dtype == (np.uint8 if found.multi_label else np.int64)
        assert 0 <= split.labels.min() <= split.labels.max() < (2 if found.multi_label else len(found.classes))


LABELS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).map(str.strip).filter(bool)


@given(
    rows=st.lists(st.tuples(LABELS, st.sampled_from(sorted(SPLIT_OF))), min_size=len(IMAGES), max_size=len(IMAGES)),
    delimiter=st.sampled_from(",;\t"),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    mark=st.booleans(),
)
def test_what_was_written_is_read(
    file: Path, rows: list[tuple[str, str]], delimiter: str, end: str, mark: bool
) -> None:
    lines = [(image, label, split) for image, (label, split) in zip(IMAGES, rows, strict=True)]
    out = io.StringIO()
    # By itself it leaves a label's own line ends without quotes where the table's are others.
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([("path", "label", "split"), *lines])
    found = read(file, out.getvalue().encode("utf-8-sig" if mark else "utf-8"))
    if isinstance(found, Refused):
        learned = {label for _, label, split in lines if split == "train"}
        assert len({label for _, label, _ in lines}) < 2 or {label for _, label, _ in lines} > learned
        return
    told = {
        (Path(str(image)).name, found.classes[label], name)
        for name, split in found.splits.items()
        for image, label in zip(split.images, split.labels.tolist(), strict=True)
    }
    assert told == {(image, label, SPLIT_OF[split]) for image, label, split in lines}
