"""Tables of images: both multi-label forms, each spelling that spreadsheets write, each doubtful line by its number."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoo.errors import DatasetInvalid
from zoo.plugin import Dataset, Split, csv_dataset

FILES = ("a.png", "b.png", "c.png", "d.png")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).touch()
    return tmp_path


def table(place: Path, text: str | bytes, name: str = "labels.csv") -> Path:
    file = place / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def read(place: Path, text: str | bytes, **options: Any) -> Dataset:
    return csv_dataset(table(place, text), **options)


def error(place: Path, text: str | bytes, **options: Any) -> str:
    with pytest.raises(DatasetInvalid) as caught:
        read(place, text, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert "labels.csv" in message
    return message


def contents(split: Split) -> list[tuple[str, Any]]:
    return [(Path(str(i)).name, n) for i, n in zip(split.images, split.labels.tolist(), strict=True)]


PLAIN = [("a.png", 1), ("b.png", 0)]


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na.png,dog\nb.png,cat\n",
        "path;label\na.png;dog\nb.png;cat\n",
        "path\tlabel\na.png\tdog\nb.png\tcat\n",
        b"\xef\xbb\xbfpath,label\r\na.png,dog\r\nb.png,cat\r\n",
        b"\xef\xbb\xbfpath;label\r\na.png;dog\r\nb.png;cat",
        '"path","label"\n"a.png","dog"\n"b.png","cat"\n',
        "path, label\na.png, dog \nb.png,cat\n",
        ",note,label,path\n0,x,dog,a.png\n1,y,cat,./b.png\n",
        "path,label\n\na.png,dog\n,\n   \nb.png,cat\n,\n",
        'path,label\na.png,"dog"\nb.png,cat\na.png,dog\n',
    ],
    ids=["comma", "semicolon", "tab", "bom", "excel", "quotes", "spaces", "index", "blank lines", "said twice"],
)
def test_every_usual_spelling_is_read(place: Path, text: str | bytes) -> None:
    dataset = read(place, text)
    assert dataset.classes == ("cat", "dog")
    assert not dataset.multi_label
    assert dataset.license == ""
    assert list(dataset.splits) == ["train"]
    assert contents(dataset.splits["train"]) == PLAIN
    assert dataset.splits["train"].labels.dtype == np.int64


def test_names_may_hold_commas_spaces_and_any_letters(tmp_path: Path) -> None:
    names = ["rote Äpfel, grün.png", "犬 1.png", 'the "big" one.png', "a;b.png"]
    for name in names:
        (tmp_path / name).touch()
    lines = [f'"{name.replace(chr(34), chr(34) * 2)}","{label}"' for name, label in zip(names, "ÄÄzz", strict=True)]
    dataset = read(tmp_path, "\n".join(['path,"label, said by me; twice"', *lines]), label='"label, said by me; twice"')
    assert dataset.classes == ("z", "Ä")
    assert contents(dataset.splits["train"]) == list(zip(names, [1, 1, 0, 0], strict=True))


def test_a_column_with_a_comma_in_its_name_is_one_column(place: Path) -> None:
    dataset = read(place, 'path,"cat,dog"\na.png,1\nb.png,0\n', label="cat,dog")
    assert dataset.classes == ("0", "1")


def test_the_delimiter_is_the_one_that_shows_the_columns_asked_for(place: Path) -> None:
    dataset = read(place, "path;label;size, in px; kind, if any, or none\na.png;dog;1;\nb.png;cat;2;\n")
    assert contents(dataset.splits["train"]) == PLAIN


def test_columns_can_have_other_names(place: Path) -> None:
    text = "file,kind,fold\na.png,dog,Train\nb.png,cat,TRAIN\nc.png,cat,valid\nd.png,dog,test\n"
    dataset = read(place, text, path="file", label="kind", split="fold")
    assert contents(dataset.splits["train"]) == PLAIN
    assert contents(dataset.splits["val"]) == [("c.png", 0)]
    assert contents(dataset.splits["test"]) == [("d.png", 1)]


@pytest.mark.parametrize("word", ["val", "valid", "validation", " Val "])
def test_the_words_of_the_split_column(place: Path, word: str) -> None:
    dataset = read(place, f"path,label,split\na.png,x,train\nb.png,y,train\nc.png,x,{word}\n")
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 2, "val": 1}


def test_a_split_column_can_be_passed_over(place: Path) -> None:
    assert list(read(place, "path,label,split\na.png,x,1\nb.png,y,2\n", split="").splits) == ["train"]


def test_paths_are_relative_to_the_table_or_to_a_folder_or_absolute(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "sub").mkdir()
    (place / "sub" / "e.png").touch()
    text = f"path,label\ne.png,x\n{place / 'a.png'},y\n../b.png,y\n"
    monkeypatch.chdir(place)
    csv_dataset(table(place / "sub", text, "x.csv"))
    dataset = csv_dataset(Path(table(place, text).name), root=Path("sub"))
    assert dataset.splits["train"].images == [place / "sub/e.png", place / "a.png", place / "sub/../b.png"]


def test_several_labels_in_one_cell(place: Path) -> None:
    text = "path,label,split\na.png,dog|cat,train\nb.png, bird ,train\nc.png,dog | bird|dog,val\n"
    dataset = read(place, text, separator="|")
    assert dataset.multi_label
    assert dataset.classes == ("bird", "cat", "dog")
    assert dataset.splits["train"].labels.dtype == np.uint8
    assert contents(dataset.splits["train"]) == [("a.png", [0, 1, 1]), ("b.png", [1, 0, 0])]
    assert contents(dataset.splits["val"]) == [("c.png", [1, 0, 1])]


@pytest.mark.parametrize(("cell", "separator"), [('"cat,dog"', ","), ("cat dog", " "), ("cat  dog", " ")])
def test_separators_that_look_like_something_else(place: Path, cell: str, separator: str) -> None:
    dataset = read(place, f"path,label\na.png,{cell}\nb.png,cat\n", separator=separator)
    assert contents(dataset.splits["train"]) == [("a.png", [1, 1]), ("b.png", [1, 0])]


def test_one_column_a_class(place: Path) -> None:
    text = "path,dog,cat,note,split\na.png,1,0,x,train\nb.png, 1 ,1,,train\nc.png,0,0,,train\nd.png,0,1,,test\n"
    dataset = read(place, text, label="cat, dog")
    assert dataset.multi_label
    assert dataset.classes == ("cat", "dog")
    assert dataset.splits["train"].labels.dtype == np.uint8
    assert contents(dataset.splits["train"]) == [("a.png", [0, 1]), ("b.png", [1, 1]), ("c.png", [0, 0])]
    assert contents(dataset.splits["test"]) == [("d.png", [1, 0])]


@pytest.mark.parametrize(
    ("text", "options", "what"),
    [
        (b"path,label\na.png,x\nb.png,\xe4\n", {}, "line 3 is not UTF-8; save the table as CSV in UTF-8"),
        ("path,label\n".encode("utf-16"), {}, "line 1 is not UTF-8"),
        ("", {}, "line 1 is no header"),
        ("\npath,label\n", {}, "line 1 is no header"),
        ("a.png,x\nb.png,y\n", {}, "line 1 is no header; let it name the columns"),
        ("path,label\n", {}, "holds no line below its header"),
        ("file,label\na,x\n", {}, "line 1 has no column 'path'; it has 'file', 'label'; name one"),
        ("Path,label\na,x\n", {}, "no column 'path' (did you mean 'Path'?); it has 'Path', 'label'"),
        ("path,lable\na,x\n", {}, "no column 'label' (did you mean 'lable'?)"),
        ("path,cat,dig\na,1,0\n", {"label": "cat,dog"}, "no column 'dog' (did you mean 'dig'?)"),
        ("path,label,Split\na,x,val\n", {}, "no column 'split' (did you mean 'Split'?)"),
        ("path,label\na,x\n", {"split": "fold"}, "no column 'fold'"),
        ("path,label,label\na,x,y\n", {}, "line 1 has 2 columns named 'label'; rename all but one"),
        ("path,label\na.png,x\n,y\n", {}, "line 3 has an empty 'path'"),
        ("path,label\na.png,x\nb.png, \n", {}, "line 3 has an empty 'label'"),
        ("path,label\na.png,x|\nb.png,y\n", {"separator": "|"}, "line 2 has an empty label in 'x|'"),
        ("path,label\na.png,x\nb, c.png,y\n", {}, "line 3 has 3 cells, the header 2; put a cell that holds ','"),
        ("path,label\na.png\n", {}, "line 2 has 1 cells, the header 2"),
        ('path,label\na.png,x\nb.png,"y\nc.png,x\n', {}, "is no CSV: unexpected end of data"),
        ("path,label," + "x" * 200_000 + "\na,b,c", {}, "is no CSV: field larger than field limit"),
        ("path,label,split\na.png,x,train\nb.png,y,dev\n", {}, "line 3 has 'dev' in column 'split'; write train, val"),
        ("path,label,split\na.png,x,\nb.png,y,train\n", {}, "line 2 has '' in column 'split'"),
        ("path,x,y\na.png,1,0\nb.png,0,yes\n", {"label": "x,y"}, "line 3 has 'yes' in column 'y'; write 0 or 1"),
        ("path,x,y\na.png,1,0\nb.png,0,\n", {"label": "x,y"}, "line 3 has '' in column 'y'"),
        ("path,x,y\na.png,1,0\n", {"label": "x,y"}, "no image has a 1 in column 'y'"),
        ("path,label\na.png,x\nb.png,x\n", {}, "needs at least 2 classes, found: 'x'"),
        ("path,label,split\na.png,x,train\nb.png,y,train\nc.png,z,test\n", {}, "split test holds a class that train"),
        ("path,x,y,split\na.png,1,0,train\nb.png,0,1,val\n", {"label": "x,y"}, "split val holds a class that train"),
        ("path,label,split\na.png,x,val\nb.png,y,test\n", {}, "has no line of split train"),
        ("path,label\na.png,x\nb.png,y\n./a.png,y\n", {}, "differently than line 2; keep one, or write all in one"),
        ("path,label,split\na.png,x,train\nb.png,y,train\na.png,x,val\n", {}, "into val, line 2 into train; keep one"),
    ],
)
def test_what_is_doubtful_is_refused_in_one_line(
    place: Path, text: str | bytes, options: dict[str, Any], what: str
) -> None:
    assert what in error(place, text, **options)


def test_a_separator_and_several_columns_exclude_each_other(place: Path) -> None:
    file = table(place, "path,x,y\na.png,1,0\nb.png,0,1\n")
    with pytest.raises(DatasetInvalid, match=r"separator='[|]' is for one label column"):
        csv_dataset(file, label="x,y", separator="|")


@pytest.mark.parametrize("label", ["", "a,,b", 'a,"b', '"a"b'])
def test_a_label_that_names_no_column(place: Path, label: str) -> None:
    file = table(place, "path,label\na.png,x\nb.png,y\n")
    with pytest.raises(DatasetInvalid, match="names no column"):
        csv_dataset(file, label=label)


def test_missing_images_are_counted_and_the_first_named(place: Path) -> None:
    (place / "folder").mkdir()
    names = ["no1.png", "a.png", "folder", "no2.png", "no3.png", "b.png", "no4.png"]
    text = "path,label\n" + "".join(f"{name},{'xy'[i % 2]}\n" for i, name in enumerate(names))
    message = error(place, text)
    assert "names 5 of 7 images that are no files: " in message
    assert f"'{place / 'no1.png'}' (line 2), '{place / 'folder'}' (line 4)" in message
    assert "no2.png' (line 5) and 2 more; correct them" in message
    assert "no3" not in message
    assert message.endswith(f", {place}")


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "a\0.png"])
def test_a_name_that_no_file_can_have_is_a_missing_one(place: Path, name: str) -> None:
    assert "names 1 of 3 images" in error(place, f"path,label\na.png,x\nb.png,y\n{name},x\n")


@pytest.mark.parametrize("name", ["missing.csv", ".", "a\0b.csv"])
def test_a_table_that_cannot_be_read(place: Path, name: str) -> None:
    with pytest.raises(DatasetInvalid, match=r"cannot be read: .*; name a CSV file"):
        csv_dataset(place / name)


def test_many_columns_are_not_all_listed(place: Path) -> None:
    text = ",".join(f"c{i}" for i in range(40)) + "\n" + ",".join("0" * 40) + "\n"
    assert re.search(r"'c11', and 28 more; name one", error(place, text))
