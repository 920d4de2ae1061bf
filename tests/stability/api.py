"""Everything that outsiders rely on, as text: `python -m tests.stability.api > tests/stability/api.txt`."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


OF_THE_DOOR = {
    "zoo.Run": ("finished", "folds", "name", "record"),
    "zoo.Artifact": ("manifest", "page", "rejected", "report"),
}
"""What users may ask of a thing that functions return; the rest of its class is the house's own."""


def lines() -> Iterator[str]:
    """Yield one line for each name, field, method, option and file key that is public."""
    for module in ("zoo", "zoo.plugin", "zoo.preprocess", "zoo.testing"):
        yield from _module(importlib.import_module(module))
    yield from _errors()
    yield from _suites()
    yield from _entry_points()
    yield from _commands()
    yield from _files()


def _module(module: Any) -> Iterator[str]:
    names = getattr(module, "__all__", None) or [n for n, v in vars(module).items() if _belongs(module, n, v)]
    for name in sorted(names):
        value = getattr(module, name)
        where = f"{module.__name__}.{name}"
        if inspect.isclass(value):
            yield f"{where} class"
            promised = OF_THE_DOOR.get(where)
            assert all(hasattr(value, member) for member in promised or ())
            yield from (f"{where}.{member}" for member in promised or _members(value))
        elif inspect.isfunction(value):
            yield f"{where}{inspect.signature(value)}"
        else:
            yield f"{where} = {value!r}" if isinstance(value, int | str) else where


def _belongs(module: Any, name: str, value: Any) -> bool:
    return not name.startswith("_") and getattr(value, "__module__", None) == module.__name__


def _members(cls: type) -> Iterator[str]:
    if dataclasses.is_dataclass(cls):
        for field in dataclasses.fields(cls):
            needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            yield f"{field.name}: {field.type}{'' if needed else ' (optional)'}"
    else:
        yield from (f"{n}: {t}" for n, t in vars(cls).get("__annotations__", {}).items() if not n.startswith("_"))
    for name, value in vars(cls).items():
        function = value.__func__ if isinstance(value, classmethod) else value
        if inspect.isfunction(function) and not name.startswith(("_", "test_")):
            yield f"{name}{inspect.signature(function)}"


def _errors() -> Iterator[str]:
    import zoo.errors

    for name, value in sorted(vars(zoo.errors).items()):
        if inspect.isclass(value) and issubclass(value, BaseException):
            yield f"zoo.errors.{name}({value.__mro__[1].__name__}) exits with {getattr(value, 'exit_code', '-')}"


def _suites() -> Iterator[str]:
    import zoo.testing
    import zoo.testing.fixtures

    for name in zoo.testing.__all__:
        for promise in sorted(n for n in dir(getattr(zoo.testing, name)) if n.startswith("test_")):
            yield f"zoo.testing.{name} promises {promise}"
    yield from (f"pytest fixture {name}" for name in sorted(vars(zoo.testing.fixtures)) if name.startswith("zoo_"))


def _entry_points() -> Iterator[str]:
    from zoo.catalogue import Catalogue
    from zoo.catalogue.installed import GROUPS, OURS
    from zoo.catalogue.options import exporter_options, options_of

    yield from (f"entry point group {group} ({kind})" for kind, group in GROUPS.items())
    catalogue = Catalogue.read()
    for plugin in sorted(catalogue.plugins, key=lambda p: (p.kind, p.name)):
        if plugin.distribution == OURS:
            yield f"{plugin.kind} {plugin.name}"
            loaded = catalogue.load(plugin)
            options = exporter_options(loaded()) if plugin.kind == "exporter" else options_of(loaded)
            for option in options.values():
                yield f"{plugin.kind} {plugin.name} option {option.name}: {option.type_name} = {option.default!r}"


def _commands() -> Iterator[str]:
    import typer

    from zoo.cli.app import app

    yield from _command("zoo", typer.main.get_command(app))


def _command(name: str, command: Any) -> Iterator[str]:
    # What they are is public, in which order they stand in the help is not.
    flags_of = {" ".join([*p.opts, *p.secondary_opts]): p for p in command.params}
    for flags, parameter in sorted(flags_of.items()):
        yield f"{name}: {flags} {parameter.param_type_name}{' (many)' if parameter.multiple else ''}"
    for word, sub in sorted(getattr(command, "commands", {}).items()):
        yield from _command(f"{name} {word}", sub)


def _files() -> Iterator[str]:
    from zoo.catalogue.registry import Registry
    from zoo.records.config import TrainConfig
    from zoo.records.manifest import Manifest, Report
    from zoo.records.record import RunRecord

    for file, model in (("run.json", RunRecord), ("artifact.json", Manifest), ("artifact.json report", Report)):
        yield from (f"{file}: {field.alias or name}" for name, field in model.model_fields.items())
    yield from sorted(f"training option {name} = {field.default!r}" for name, field in TrainConfig.model_fields.items())
    yield from (f"registry.toml [{field.name}]" for field in dataclasses.fields(Registry))


if __name__ == "__main__":
    print("\n".join(lines()))
