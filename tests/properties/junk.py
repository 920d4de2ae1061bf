"""Texts and values as they may come from a command line or a TOML file, sensible or not."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
"""Whatever a TOML file can hold."""
ANY_TEXT = st.text(max_size=20)
"""Lone surrogates as well, which Python makes of an argument that is no UTF-8."""
WORDS = st.from_regex(r"[A-Z][a-z]{1,6}( [a-z]{1,6}){0,3}\.?", fullmatch=True)


def junk(text: st.SearchStrategy[str] = ANY_TEXT) -> st.SearchStrategy[Any]:
    """Return any value that TOML knows, nested as deep as may be."""
    times = st.dates() | st.times() | st.datetimes()
    plain = st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | text | times
    return st.recursive(
        plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3), max_leaves=5
    )
