"""A table of image files and their labels (CSV) -> a dataset; every doubtful line is refused by its number."""

from __future__ import annotations

import csv
import difflib
import io
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.contracts.plugins import Dataset, Split
from zoo.data.folders import IMAGE_SUFFIXES
from zoo.errors import DatasetInvalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np


DELIMITERS = (",", ";", "\t")
SPLIT_OF = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""What a split column may say, in lower case, and the split that is meant."""
DEFAULT_SPLIT = "split"
MOST_NAMED = 3
MOST_COLUMNS = 12


@dataclass(frozen=True)
class _Table:
    """The cells of a file below its header."""

    file: Path
    header: list[str]
    rows: list[tuple[int, list[str]]]
    """The number of each row's last line, and as many cells as the header has."""

    def column(self, name: str) -> list[tuple[int, str]]:
        """Return (line, cell) of a column.

        Raises:
            DatasetInvalid: there is none of that name, or two.
        """
        if self.header.count(name) > 1:
            raise _wrong(self.file, 1, f"has {self.header.count(name)} columns named {name!r}; rename all but one")
        if name not in self.header:
            close = difflib.get_close_matches(name.lower(), [known.lower() for known in self.header], n=3)
            near = [known for known in self.header if known.lower() in close]
            hint = f" (did you mean {_listed(near, ' or ')}?)" if near else ""
            raise _wrong(
                self.file,
                1,
                f"has no column {name!r}{hint}; it has {_listed(self.header)}; name one of them or add it",
            )
        place = self.header.index(name)
        return [(line, cells[place]) for line, cells in self.rows]


@dataclass(frozen=True)
class _Labels:
    """Each row's labels, in the table's order."""

    classes: tuple[str, ...]
    values: np.ndarray
    """int64 [N], or uint8 [N, C] if there may be several."""

    def held(self, rows: list[int]) -> set[int]:
        """Return the classes that these rows hold."""
        values = self.values[rows]
        if values.ndim == 1:
            return set(values.tolist())
        return {place for row in values.tolist() for place, held in enumerate(row) if held}


def csv_dataset(
    file: Path,
    *,
    path: str = "path",
    label: str = "label",
    split: str = DEFAULT_SPLIT,
    separator: str = "",
    root: Path | None = None,
) -> Dataset:
    """Read a table with a header and one line an image: UTF-8, its cells separated by comma, semicolon or tab.

    A line that says again what an earlier one said is passed over.

    Args:
        file: The table.
        path: Name of the column with the image files.
        label: Name of the column with the class; or several names, "cat,dog", of columns of 0 and 1, for a
            multi-label dataset whose classes they are, in this order. Otherwise classes are sorted by name.
        split: Name of the column that says train, val (valid, validation) or test, in any case. Without the usual
            column "split", or with split="", all is train.
        separator: Between several labels in one cell, for a multi-label dataset.
        root: The folder that paths are relative to; the table's own if not given.

    Raises:
        DatasetInvalid: no such file, column or image, or a cell that cannot be understood; its line is named.
    """
    # zoo.plugin offers this function to authors, so it comes first.

    file = file.absolute()
    names = _label_names(label)
    table = _read(file, [path, label, *names])
    base = root.absolute() if root else file.parent
    paths = [(line, _path(file, line, base, cell, path)) for line, cell in table.column(path)]
    labels = _labels(table, label, names, separator)
    splits = _splits(table, split)
    kept = _without_repeats(file, paths, labels.values, splits)
    rows = {name: [row for row in kept if splits[row] == name] for name in ("train", "val", "test")}
    _check_classes(file, labels, rows)
    _check_files(file, [paths[row] for row in kept], base)
    return Dataset(
        classes=labels.classes,
        splits={
            name: Split(images=[Path(paths[row][1]) for row in chosen], labels=labels.values[chosen])
            for name, chosen in rows.items()
            if chosen
        },
        multi_label=labels.values.ndim == 2,
    )


def _wrong(file: Path, line: int, what: str) -> DatasetInvalid:
    return DatasetInvalid(f"{file} line {line} {what}")


def _listed(names: Iterable[str], glue: str = ", ") -> str:
    names = list(names)
    rest = f"{glue}and {len(names) - MOST_COLUMNS} more" if len(names) > MOST_COLUMNS else ""
    return glue.join(map(repr, names[:MOST_COLUMNS])) + rest


def _label_names(label: str) -> list[str]:
    """Return the parts of "cat,dog"; a name that holds a comma itself is written in quotes."""
    try:
        names = [name.strip() for row in csv.reader([label], skipinitialspace=True, strict=True) for name in row]
    except csv.Error:
        names = []
    if not all(names) or not names:
        raise DatasetInvalid(f"label={label!r} names no column; write one name, or several as in cat,dog")
    return list(dict.fromkeys(names))


def _read(file: Path, wanted: Sequence[str]) -> _Table:
    text = _text(file)
    delimiter = _delimiter(next(io.StringIO(text, newline=None), ""), set(wanted))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        header = _header(file, [cell.strip() for cell in next(reader, [])], wanted)
        rows = []
        for cells in reader:
            # Spreadsheets leave lines of nothing but delimiters below the last one.
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                raise _wrong(
                    file,
                    reader.line_num,
                    f"has {len(cells)} cells, the header {len(header)}; put a cell that holds {delimiter!r} in quotes",
                )
            rows.append((reader.line_num, cells))
    except csv.Error as exc:
        raise _wrong(file, reader.line_num, f"is no CSV: {exc}; check the quotes there and before") from exc
    if not rows:
        raise DatasetInvalid(f"{file} holds no line below its header; add one for each image")
    return _Table(file, header, rows)


def _delimiter(line: str, wanted: set[str]) -> str:
    def names(delimiter: str) -> list[str]:
        try:
            return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])]
        except csv.Error:  # a line without end: the strict reader tells
            return []

    # The columns that are looked for tell more than numbers: a name may hold another delimiter.
    return max(DELIMITERS, key=lambda delimiter: (len(wanted.intersection(names(delimiter))), len(names(delimiter))))


def _header(file: Path, cells: list[str], wanted: Sequence[str]) -> list[str]:

    # Without a look at the suffix, the first image would be taken for a column's name.
    if not any(cells) or any(Path(cell).suffix.lower() in IMAGE_SUFFIXES for cell in cells if cell not in wanted):
        raise _wrong(file, 1, "is no header; let it name the columns, for example path,label")
    return cells


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = exc.object[: exc.start].count(b"\n") + 1
        raise _wrong(file, line, "is not UTF-8; save the table as CSV in UTF-8") from exc
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise DatasetInvalid(f"{file} cannot be read: {reason}; name a CSV file") from exc


def _path(file: Path, line: int, base: Path, cell: str, column: str) -> str:
    if not cell.strip():
        raise _wrong(file, line, f"has an empty {column!r}; write the image's file or remove the line")
    return str(base / cell)


def _labels(table: _Table, label: str, names: list[str], separator: str) -> _Labels:
    if label not in table.header:
        if len(names) > 1:
            return _columns(table, names, separator)
        label = names[0]
    column = [(line, cell.strip()) for line, cell in table.column(label)]
    for line, cell in column:
        if not cell:
            raise _wrong(table.file, line, f"has an empty {label!r}; write the image's class or remove the line")
    import numpy as np

    if not separator:
        classes = sorted({cell for _, cell in column})
        index = {name: number for number, name in enumerate(classes)}
        return _Labels(tuple(classes), np.array([index[cell] for _, cell in column], dtype=np.int64))
    several = [_parts(table.file, line, cell, separator) for line, cell in column]
    classes = sorted({part for parts in several for part in parts})
    index = {name: number for number, name in enumerate(classes)}
    values = np.zeros((len(several), len(classes)), np.uint8)
    for row, parts in enumerate(several):
        values[row, [index[part] for part in parts]] = 1
    return _Labels(tuple(classes), values)


def _columns(table: _Table, names: list[str], separator: str) -> _Labels:
    if separator:
        raise DatasetInvalid(
            f"separator={separator!r} is for one label column, {len(names)} were named: {_listed(names)}; leave one out"
        )
    marks = [_marks(table, name) for name in names]
    import numpy as np

    return _Labels(tuple(names), np.array(marks, np.uint8).T)


def _parts(file: Path, line: int, cell: str, separator: str) -> list[str]:
    parts = cell.split() if separator.isspace() else [part.strip() for part in cell.split(separator)]
    if not all(parts):
        raise _wrong(file, line, f"has an empty label in {cell!r}; remove the {separator!r} that is too many")
    return parts


def _marks(table: _Table, name: str) -> list[bool]:
    column = [(line, cell.strip()) for line, cell in table.column(name)]
    for line, cell in column:
        if cell not in ("0", "1"):
            raise _wrong(table.file, line, f"has {cell!r} in column {name!r}; write 0 or 1")
    return [cell == "1" for _, cell in column]


def _splits(table: _Table, split: str) -> list[str]:
    """Return each row's split."""
    alike = [name for name in table.header if name.lower() == split.lower()]
    # A column "Split" must not be passed over in silence; `column` refuses it by name.
    if not split or (split == DEFAULT_SPLIT and not alike):
        return ["train"] * len(table.rows)
    found = []
    for line, cell in table.column(split):
        known = SPLIT_OF.get(cell.strip().lower())
        if known is None:
            raise _wrong(table.file, line, f"has {cell!r} in column {split!r}; write train, val or test")
        found.append(known)
    return found


def _without_repeats(file: Path, paths: list[tuple[int, str]], values: np.ndarray, splits: list[str]) -> list[int]:
    """Return the rows whose image no earlier row names; one that says something else of it is refused."""
    first: dict[str, int] = {}
    for row, (line, path) in enumerate(paths):
        before = first.setdefault(path, row)
        if before == row:
            continue
        if (values[row] != values[before]).any():
            raise _wrong(
                file,
                line,
                f"labels {path!r} differently than line {paths[before][0]}; keep one, or write all in one "
                "cell and give their separator",
            )
        if splits[row] != splits[before]:
            raise _wrong(
                file, line, f"puts {path!r} into {splits[row]}, line {paths[before][0]} into {splits[before]}; keep one"
            )
    return list(first.values())


def _check_classes(file: Path, labels: _Labels, rows: dict[str, list[int]]) -> None:
    if len(labels.classes) < 2:
        found = _listed(labels.classes) or "none"
        raise DatasetInvalid(f"{file} needs at least 2 classes, found: {found}; add images of another class")
    if not rows["train"]:
        raise DatasetInvalid(f"{file} has no line of split train; mark some lines as train")
    known = labels.held(rows["train"])
    for split in ("val", "test"):
        unknown = labels.held(rows[split]) - known
        if unknown:
            names = _listed(labels.classes[number] for number in sorted(unknown))
            raise DatasetInvalid(
                f"{file}: split {split} holds a class that train lacks: {names}; add it to train or remove it"
            )
    nowhere = [name for number, name in enumerate(labels.classes) if number not in known]
    if nowhere:
        raise DatasetInvalid(f"{file}: no image has a 1 in column {_listed(nowhere)}; mark some or leave it out")


def _check_files(file: Path, paths: list[tuple[int, str]], base: Path) -> None:
    missing = [(line, path) for line, path in paths if not _is_file(path)]
    if missing:
        named = ", ".join(f"{path!r} (line {line})" for line, path in missing[:MOST_NAMED])
        more = f" and {len(missing) - MOST_NAMED} more" if len(missing) > MOST_NAMED else ""
        raise DatasetInvalid(
            f"{file} names {len(missing)} of {len(paths)} images that are no files: {named}{more}; "
            f"correct them or the folder that they are relative to, {base}"
        )


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(Path(path).stat().st_mode)
    except (OSError, ValueError):
        return False
