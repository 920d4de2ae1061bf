"""A plugin's source, read and not imported: faults that show there, its API version, its options and their help."""

from __future__ import annotations

import ast
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.catalogue.isolation.foretell import effects_of, end_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.metadata import EntryPoint

DEEPEST = 5
"""How many re-exports are followed to the definition."""


@dataclass(frozen=True)
class Reading:
    """What the source tells."""

    file: Path | None = None
    """The module's source; None for compiled code, of which nothing else is known."""
    fault: str = ""
    """Why an import is bound to fail; empty if nothing speaks against it."""
    api: object = None
    """The API version that the module states; None if it states none."""
    options: tuple[str, ...] = ()
    """Names of the keyword options, in the order of the signature."""
    closed: bool = False
    """Whether there are no others: nothing decorates the function, and what tells the options is written out."""
    doc: str = ""
    """The docstring of the function or class."""
    end: str = ""
    """Why an import is likely not to come to its end; empty if nothing says so."""
    effects: tuple[str, ...] = ()
    """What an import is likely to do beside."""


def read(entry_point: EntryPoint) -> Reading:
    """Read the module behind an entry point; raises nothing."""
    module, _, attribute = entry_point.value.partition(":")
    try:
        file = find_source(module)
    except LookupError as exc:
        return Reading(fault=str(exc))
    if file is None:
        return Reading()
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError) as exc:
        line = f":{exc.lineno}" if isinstance(exc, SyntaxError) and exc.lineno else ""
        return Reading(file, f"SyntaxError at {file.name}{line}: {getattr(exc, 'msg', exc)}")
    except OSError as exc:
        return Reading(file, f"{file} cannot be read: {exc.strerror}")
    api = _constant(tree, "ZOO_API")
    fault = _missing_import(tree) or _missing_attribute(tree, attribute, file)
    definition = None if fault else _definition(tree, attribute, module, DEEPEST)
    doc = ast.get_docstring(definition) if isinstance(definition, ast.FunctionDef | ast.ClassDef) else ""
    return Reading(
        file,
        fault,
        api,
        _options(definition),
        _is_closed(definition),
        doc or "",
        end=end_of(tree, file.name),
        effects=effects_of(tree),
    )


def find_source(module: str) -> Path | None:
    """Return a module's source file without importing its package; None if it is compiled.

    Raises:
        LookupError: there is no such module.
    """
    path: list[str] | None = None
    spec = None
    parts = module.split(".")
    for length in range(1, len(parts) + 1):
        name = ".".join(parts[:length])
        found = (finder.find_spec(name, path) for finder in sys.meta_path if hasattr(finder, "find_spec"))
        spec = next((spec for spec in found if spec), None)
        if spec is None:
            raise LookupError(f"module {name} is not installed")
        path = list(spec.submodule_search_locations or [])
    origin = Path(spec.origin) if spec and spec.origin and spec.has_location else None
    return origin if origin and origin.suffix == ".py" else None


def _missing_import(tree: ast.Module) -> str:
    """Look at the imports that certainly run; those under `if` and `try` may not."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        else:
            continue
        for name in (name.partition(".")[0] for name in names):
            if name not in sys.modules and not _exists(name):
                return f"needs {name}, which is not installed; run `pip install {name}` or reinstall the plugin"
    return ""


def _exists(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _missing_attribute(tree: ast.Module, attribute: str, file: Path) -> str:
    names = set(_bound(tree))
    if attribute.partition(".")[0] in names or names & {"*", "__getattr__"}:
        return ""
    return f"{file.name} defines no {attribute}"


def _bound(tree: ast.AST) -> Iterator[str]:
    """Yield every name that a module may define at its top level, also under `if`, `try`, `with` and `for`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name.partition(".")[0]
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        else:
            yield from _bound(node)


def _constant(tree: ast.Module, name: str) -> object:
    """Return the literal that a module assigns to `name`; None if there is none."""
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            value = getattr(node, "value", None)
            return value.value if isinstance(value, ast.Constant) else None
    return None


def _definition(tree: ast.Module, name: str, module: str, depth: int) -> ast.AST | None:
    """Find the function or class, also through `from .other import name`."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return node
        if isinstance(node, ast.ImportFrom) and depth:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _elsewhere(_absolute(node, module), alias.name, depth - 1)
    return None


def _elsewhere(module: str, name: str, depth: int) -> ast.AST | None:
    try:
        file = find_source(module)
        return _definition(ast.parse(file.read_bytes()), name, module, depth) if file else None
    except (LookupError, OSError, SyntaxError, ValueError):
        return None


def _absolute(node: ast.ImportFrom, module: str) -> str:
    package = module.rsplit(".", node.level)[0] if node.level else ""
    return f"{package}.{node.module}".strip(".") if node.module else package


def _is_closed(definition: ast.AST | None) -> bool:
    if isinstance(definition, ast.ClassDef):
        methods = {node.name: node for node in definition.body if isinstance(node, ast.FunctionDef)}
        if definition.decorator_list or definition.keywords:
            return False
        told = methods.get("export_options")
        if told is None:
            return "__init__" in methods and not definition.bases and not methods["__init__"].decorator_list
        returned = [node.value for node in ast.walk(told) if isinstance(node, ast.Return)]
        return all(isinstance(value, ast.Dict) and all(_is_text(key) for key in value.keys) for value in returned)
    return isinstance(definition, ast.FunctionDef) and not definition.decorator_list


def _is_text(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _options(definition: ast.AST | None) -> tuple[str, ...]:
    if isinstance(definition, ast.ClassDef):
        methods = {node.name: node for node in definition.body if isinstance(node, ast.FunctionDef)}
        if "export_options" in methods:
            return tuple(_returned_keys(methods["export_options"]))
        definition = methods.get("__init__")
    if not isinstance(definition, ast.FunctionDef):
        return ()
    arguments = definition.args
    return tuple(
        argument.arg
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if default is not None
    )


def _returned_keys(method: ast.FunctionDef) -> Iterator[str]:
    for node in ast.walk(method):
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Dict):
            for key in node.value.keys:
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    yield key.value
