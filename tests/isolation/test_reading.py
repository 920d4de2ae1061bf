"""What is told of a plugin from its source alone."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING

import pytest

from zoo.catalogue.isolation.reading import read

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("source", "options", "closed"),
    [
        ("def make(root, *, a=1, **rest): pass", ("a",), True),
        ("@wrapped\ndef make(root, *, a=1): pass", ("a",), False),
        ("class make:\n def __init__(self, *, a=1): pass", ("a",), True),
        ("class make(Base):\n def __init__(self, *, a=1): pass", ("a",), False),
        ("class make(Base):\n pass", (), False),
        ("class make(Base):\n def export_options(self): return {'a': 1}", ("a",), True),
        ("class make(Base):\n def export_options(self): return {**super().export_options(), 'a': 1}", ("a",), False),
        ("class make:\n def export_options(self): return dict(a=1)", (), False),
    ],
)
def test_options_are_all_there_are_only_where_the_source_says_so(
    source: str, options: tuple[str, ...], closed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed_or_not.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    found = read(EntryPoint("x", "closed_or_not:make", "zoo.datasets"))
    assert (found.options, found.closed) == (options, closed)
