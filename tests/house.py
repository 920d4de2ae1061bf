"""The house in numbers: rooms, arrows, floors, circles; `python -m tests.house [FOLDER]` prints them of any tree."""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("zoo", "exporters/zoo_exporters", "plugins/zoo_plugins", "bench")
"""Of packages."""


@dataclass(frozen=True)
class House:
    """A checkout, its modules folded into rooms: what stands directly in `zoo/`, and each other package as one."""

    root: Path

    @cached_property
    def modules(self) -> dict[str, Path]:
        """Name -> file, of every module."""
        found = {}
        for folder in (self.root / name for name in FOLDERS):
            for file in sorted(folder.rglob("*.py")):
                name = ".".join(file.relative_to(folder.parent).with_suffix("").parts)
                found[name.removesuffix(".__init__")] = file
        return found

    @cached_property
    def imports(self) -> dict[str, set[str]]:
        """Module -> the modules that it imports anywhere, also inside functions and for type checkers only."""
        return {name: self._imports(file) for name, file in self.modules.items()}

    @cached_property
    def arrows(self) -> dict[str, set[str]]:
        """Room -> the other rooms that it imports from."""
        found: dict[str, set[str]] = defaultdict(set)
        for name, targets in self.imports.items():
            found[room_of(name)] |= {room_of(target) for target in targets} - {room_of(name)}
        return dict(found)

    @cached_property
    def circles(self) -> list[set[str]]:
        """Rooms that reach each other."""
        reach = {room: self._reached(room) for room in self.arrows}
        groups = {frozenset({a, *(b for b in reach[a] if a in reach.get(b, ()))}) for a in reach if a in reach[a]}
        return [set(group) for group in groups]

    @property
    def floors(self) -> int:
        """Rooms on the longest way down; a circle counts as one."""
        home = {room: min(next((c for c in self.circles if room in c), {room})) for room in self.arrows}
        below: dict[str, set[str]] = defaultdict(set)
        for room, targets in self.arrows.items():
            below[home[room]] |= {home[target] for target in targets if target in home} - {home[room]}
        depth: dict[str, int] = {}

        def deep(room: str) -> int:
            if room not in depth:
                depth[room] = 1 + max((deep(target) for target in below[room]), default=0)
            return depth[room]

        return max(deep(room) for room in set(home.values()))

    @property
    def names_at_top(self) -> list[str]:
        """What a reader sees in `zoo/` first."""
        entries = [p for p in (self.root / "zoo").iterdir() if p.suffix == ".py" or any(p.glob("*.py"))]
        return sorted(p.name for p in entries if not p.name.startswith("__"))

    def _reached(self, room: str) -> set[str]:
        found: set[str] = set()
        new = set(self.arrows[room])
        while new:
            found |= new
            new = {target for one in new for target in self.arrows.get(one, ())} - found
        return found

    def _imports(self, file: Path) -> set[str]:
        names: set[str] = set()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {self._module(alias.name) for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names |= {self._module(f"{node.module}.{alias.name}") for alias in node.names}
        return names - {""}

    def _module(self, name: str) -> str:
        """Return the module that a name is, or stands in; empty for what is not of this house."""
        while name and name not in self.modules:
            name = name.rpartition(".")[0]
        return name


def room_of(module: str) -> str:
    """Return the room of a module: `zoo.training` for `zoo.training.learn.loop`.

    `zoo/__init__.py` is the door that `import zoo` opens, above all rooms; none of them goes out by it.
    """
    parts = module.split(".")
    if module == "zoo":
        return "zoo.__init__"
    return ".".join(parts[:2]) if parts[0] == "zoo" else parts[0]


def main() -> None:
    """Print the table."""
    house = House(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
    rows = {
        "names directly in zoo/": len(house.names_at_top),
        "rooms": len(house.arrows),
        "arrows between rooms": sum(map(len, house.arrows.values())),
        "floors": house.floors,
        "circles of rooms": len(house.circles),
        "modules": len(house.modules),
    }
    print("\n".join(f"{name:<28}{value}" for name, value in rows.items()))
    for circle in house.circles:
        print("circle:", ", ".join(sorted(circle)))


if __name__ == "__main__":
    main()
