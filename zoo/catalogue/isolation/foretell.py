"""What importing a module is bound to do, told from the statements at its top level; nothing is run."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ENDS = {
    "sys.exit": "ends the program at import",
    "exit": "ends the program at import",
    "quit": "ends the program at import",
    "os._exit": "ends the process at import",
    "os.abort": "crashes at import",
}
EFFECTS = {
    "print": "prints",
    "os.chdir": "changes the working folder",
    "random.seed": "changes the random state of Python",
    "numpy.random.seed": "changes the random state of numpy",
    "torch.manual_seed": "changes the random state of torch",
    "warnings.simplefilter": "changes which warnings are shown",
    "warnings.resetwarnings": "changes which warnings are shown",
    "signal.signal": "changes how signals are handled",
    "subprocess.run": "starts a process",
    "subprocess.Popen": "starts a process",
    "os.system": "starts a process",
}
LONGEST_SLEEP = 2.0
"""In seconds; a module that waits longer is taken for one that hangs."""


def end_of(tree: ast.Module, file: str) -> str:
    """Return why importing it cannot come to its end; empty if nothing at the top level says so."""
    names = _imported(tree)
    for node in tree.body:
        where = f", {file}:{node.lineno}"
        if isinstance(node, ast.Raise):
            return f"raises {_raised(node)} at import{where}"
        if isinstance(node, ast.While) and _is_endless(node):
            return f"hangs at import{where}"
        called = _called(node, names)
        if called in ENDS:
            return f"{ENDS[called]}{where}"
        if called == "time.sleep" and _argument(node) > LONGEST_SLEEP:
            return f"hangs at import{where}"
    return ""


def effects_of(tree: ast.Module) -> tuple[str, ...]:
    """Return what importing it does beside, each as "changes the working folder"."""
    names = _imported(tree)
    found = (EFFECTS.get(_called(node, names), "") for node in tree.body)
    return tuple(dict.fromkeys(effect for effect in found if effect))


def _raised(node: ast.Raise) -> str:
    error = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
    return ast.unparse(error) if error else "an error"


def _is_endless(node: ast.While) -> bool:
    leaves = any(isinstance(inner, ast.Break | ast.Return | ast.Raise) for inner in ast.walk(node))
    return isinstance(node.test, ast.Constant) and bool(node.test.value) and not leaves


def _argument(node: ast.stmt) -> float:
    call = node.value if isinstance(node, ast.Expr) else None
    first = call.args[0] if isinstance(call, ast.Call) and call.args else None
    value = first.value if isinstance(first, ast.Constant) else 0.0
    return float(value) if isinstance(value, int | float) else 0.0


def _called(node: ast.stmt, names: dict[str, str]) -> str:
    """Return the full name of what a statement calls; empty if it is no plain call."""
    if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        return ""
    first, dot, rest = ast.unparse(node.value.func).partition(".")
    return names.get(first, first) + dot + rest


def _imported(tree: ast.Module) -> dict[str, str]:
    return dict(_bindings(tree))


def _bindings(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield each imported name and what it stands for: `np` for numpy, `leave` for sys.exit."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (alias.asname, alias.name) if alias.asname else (alias.name.partition(".")[0],) * 2
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"
