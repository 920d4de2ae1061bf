"""The one place where a stranger's code is called: what it raises is told as its plugin's fault, in one line."""

from __future__ import annotations

import contextlib
import inspect
from typing import TYPE_CHECKING, Any, TypeVar, cast

from zoo.errors import ContractBroken, PluginBroken, ZooError, first_line, lacks_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zoo.catalogue.installed import Plugin

Thing = TypeVar("Thing")


@contextlib.contextmanager
def blaming(plugin: Plugin, doing: str = "") -> Iterator[None]:
    """Turn what is raised inside into the plugin's fault.

    What zoo means to raise passes, and so does what is nobody's fault: the user's Ctrl-C, and a machine out of memory.

    Args:
        plugin: Whose code runs inside.
        doing: Where it failed, for the line; for example "at image 7 of train".

    Raises:
        PluginBroken: with the plugin's kind, name and owner, and the first line of what it raised.
    """
    try:
        yield
    except (ZooError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as exc:
        if lacks_memory(exc):
            raise
        raise PluginBroken(f"{failed(plugin, doing)}: {_told(exc)}; mend that package, or do without it") from exc


def failed(plugin: Plugin, doing: str) -> str:
    """Return the beginning of a line on a plugin's fault: whose, and where."""
    return f"{plugin.kind} {plugin.name!r} from {plugin.owner} failed{doing and ' ' + doing}"


def guest(plugin: Plugin, thing: Thing, *needs: str) -> Thing:
    """Return a stranger's object, guarded: whatever is asked of it, the plugin is to blame for what goes wrong.

    Args:
        plugin: Whose it is.
        thing: What it made.
        needs: Attributes and methods that it must have.

    Raises:
        ContractBroken: it lacks one of them.
    """
    with blaming(plugin):
        missing = [name for name in needs if not hasattr(thing, name)]
    if missing:
        raise ContractBroken(
            f"{plugin.kind} {plugin.name!r} from {plugin.owner} made a {type(thing).__name__}, which has no "
            f"{' and no '.join(missing)}; mend that package, or do without it"
        )
    return cast("Thing", _Guest(plugin, thing))


class _Guest:
    """Passes everything on to what it guards."""

    def __init__(self, plugin: Plugin, thing: Any) -> None:
        self._plugin = plugin
        self._thing = thing
        self.__doc__ = inspect.getdoc(thing if inspect.isroutine(thing) else type(thing))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            with blaming(self._plugin):
                value = getattr(self._thing, name)
        except PluginBroken as exc:
            # `getattr` with a default, and `hasattr`, must work as on the thing itself.
            if isinstance(exc.__cause__, AttributeError):
                raise exc.__cause__ from None
            raise
        return _Guest(self._plugin, value) if callable(value) else value

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with blaming(self._plugin):
            return self._thing(*args, **kwargs)


def _told(exc: BaseException) -> str:
    kind, text = type(exc).__name__, first_line(exc)
    return kind if text == kind else f"{kind}: {text}"
