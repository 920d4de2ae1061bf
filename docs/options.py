"""The table of all options in docs/train.md, from the rows of zoo/records/options.py; --write writes it."""

from __future__ import annotations

import ast
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.records.options import training_options
from zoo.records.rows import Group

if TYPE_CHECKING:
    from zoo.records.rows import Option

ROOT = Path(__file__).resolve().parent.parent
SOURCE, PAGE = ROOT / "zoo/records/options.py", ROOT / "docs/train.md"
BEGIN, END = "<!-- made by docs/options.py: begin -->\n", "<!-- end of the options -->"


def table() -> str:
    """Return a table for each group."""
    more, options = remarks(), training_options().values()
    parts = []
    for group in Group:
        rows = [row(option, more.get(option.name, "")) for option in options if option.told.group is group]
        parts += [f"**{group.value}**\n", "| option | flag | default | |", "| --- | --- | --- | --- |", *rows, ""]
    return "\n".join(parts)


def row(option: Option, more: str) -> str:
    """Return one option as a line of the table."""
    range_ = f" ({option.bounds})" if option.bounds else ""
    choices = f" One of {', '.join(filter(None, option.choices))}." if option.choices else ""
    text = f"{option.told.help}{range_}{choices}{' ' if more else ''}{more}".replace("|", "\\|")
    default = f"`{option.told_default}`" if option.told_default else ""
    return f"| `{option.name}` | `{option.flag}` | {default} | {text} |"


def remarks() -> dict[str, str]:
    """Return name -> the text that stands below a row."""
    (table,) = (n for n in ast.parse(SOURCE.read_text()).body if isinstance(n, ast.ClassDef))
    found = {}
    for row, below in pairwise(table.body):
        if isinstance(row, ast.AnnAssign) and isinstance(row.target, ast.Name) and isinstance(below, ast.Expr):
            found[row.target.id] = " ".join(ast.literal_eval(below.value).split())
    return found


def main() -> None:
    """Compare, or write with --write."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    made = f"{before}{BEGIN}{table()}{END}{rest.partition(END)[2]}"
    if "--write" in sys.argv:
        PAGE.write_text(made)
    elif made != text:
        sys.exit("docs/train.md has another table of options than zoo/records/options.py; run docs/options.py --write")


if __name__ == "__main__":
    main()
