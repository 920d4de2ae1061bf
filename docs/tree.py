"""The trees in README.md and docs/architecture.md, from the modules' own docstrings: `python docs/tree.py --write`."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- made by docs/tree.py: begin -->\n```text\n", "\n```\n<!-- end -->"
WIDTH = 29
AROUND = {
    "exporters/zoo_exporters/": "onnx (fp32, fp16, int8, dynamic, int8 and int4 weights), torchscript",
    "plugins/zoo_plugins/": "datasets, augmentations (none, light, standard, heavy, randaugment, file), timm, trackers",
    "plugins/zoo-plugin-*/": "separate distributions, as outsiders write them: openvino, textures",
    "examples/": "the whole path in a notebook; a bundle read in C++ and in Node",
    "tests/ bench/ docs/": "mirrors the above; every speed claim as a ratio; the demo, how to write plugins",
}


def house() -> Iterator[str]:
    """Yield a line for each room, and for what lies around them: README's tree."""
    yield line("registry.toml", "models, recipes, datasets, targets: data, no code")
    yield line("zoo/", sentence(ROOT / "zoo/__init__.py"))
    for entry in entries(ROOT / "zoo"):
        yield from rooms(entry, 1)
    yield from (line(name, text) for name, text in AROUND.items())


def rooms(entry: Path, depth: int) -> Iterator[str]:
    """Yield a room and the rooms in it; of files, those that stand beside the rooms of the first floor."""
    if entry.is_dir():
        yield line("  " * depth + f"{entry.name}/", sentence(entry / "__init__.py"))
        for below in entries(entry):
            if below.is_dir():
                yield from rooms(below, depth + 1)
    elif depth == 1:
        yield line("  " * depth + entry.name, sentence(entry))


def files(folder: Path = ROOT / "zoo", depth: int = 0) -> Iterator[str]:
    """Yield a line for each file below a folder: the tree of docs/architecture.md."""
    yield line("  " * depth + f"{folder.name}/", sentence(folder / "__init__.py"))
    for entry in entries(folder):
        if entry.is_dir():
            yield from files(entry, depth + 1)
        else:
            yield line("  " * (depth + 1) + entry.name, sentence(entry))


def entries(folder: Path) -> list[Path]:
    """Return the modules and packages in a folder, files first."""
    found = [p for p in folder.iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()]
    return sorted((p for p in found if not p.name.startswith("__")), key=lambda p: (p.is_dir(), p.name))


def sentence(file: Path) -> str:
    """Return the first line of a module's docstring, without its full stop."""
    doc = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return doc.partition("\n")[0].removesuffix(".")


def line(name: str, text: str) -> str:
    """Return a line of a tree."""
    return f"{name:<{WIDTH}}{text}" if len(name) < WIDTH else f"{name} {text}"


def with_tree(page: str, lines: Iterator[str]) -> str:
    """Return a page with its tree made anew."""
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + "\n".join(lines) + END + rest.partition(END)[2]


def pages() -> dict[Path, str]:
    """Return each page that has a tree, as it should be."""
    trees = {ROOT / "README.md": house(), ROOT / "docs/architecture.md": files()}
    return {page: with_tree(page.read_text(encoding="utf-8"), lines) for page, lines in trees.items()}


def main() -> None:
    """Write the trees with `--write`; else tell which page is out of date, and exit with 1."""
    old = [page for page, text in pages().items() if page.read_text(encoding="utf-8") != text]
    if "--write" in sys.argv:
        for page, text in pages().items():
            page.write_text(text, encoding="utf-8")
    elif old:
        raise SystemExit(f"out of date: {', '.join(page.name for page in old)}; run `python docs/tree.py --write`")


if __name__ == "__main__":
    main()
