"""The csv dataset: the user's own images, named and labelled in a table."""

from __future__ import annotations

from pathlib import Path

from zoo.plugin import Dataset, DatasetInvalid, csv_dataset

ZOO_API = 1


def csv_table(  # noqa: PLR0913 - the options are the user's
    root: Path,
    *,
    file: str = "",
    path: str = "path",
    label: str = "label",
    split: str = "split",
    separator: str = "",
    images: str = "",
) -> Dataset:
    """Read a CSV file with a header and one line an image, of one label or several.

    Args:
        root: Not used; the images stay where they are.
        file: The table, in UTF-8; comma, semicolon or tab between its cells.
        path: Name of the column with the image files.
        label: Name of the column with the class, or several, as in cat,dog: columns of 0 and 1, one a class.
        split: Name of the column that says train, val or test; without one all is train.
        separator: Between the labels in one cell, where an image may have several.
        images: The folder that image files are relative to; the table's own if empty.

    Raises:
        DatasetInvalid: no file was named, or it cannot be understood; the line is named.
    """
    if not file:
        raise DatasetInvalid("no table was named; write --dataset-option file=labels.csv")
    return csv_dataset(
        _place("file", file),
        path=path,
        label=label,
        split=split,
        separator=separator,
        root=_place("images", images) if images else None,
    )


def _place(option: str, text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as exc:  # for an unknown user
        raise DatasetInvalid(f"{option}={text} cannot be found: {exc}; write the whole path") from exc
