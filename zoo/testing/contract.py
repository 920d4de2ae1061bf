"""What every plugin promises, of whatever kind."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import sys
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import pytest

from zoo.catalogue import Catalogue
from zoo.catalogue.isolation.child import state
from zoo.catalogue.isolation.contain import contained
from zoo.catalogue.isolation.probe import probe
from zoo.catalogue.options import OFFERED_BY_ZOO, check, options_of
from zoo.errors import OptionInvalid, ZooError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from zoo.catalogue.installed import Plugin
    from zoo.catalogue.options import Option

T = TypeVar("T")


class Contract:
    """Inherit the suite of your plugin's kind, set `name`, and override the fixtures that describe what it can do."""

    name: ClassVar[str]
    """The entry point's name, as users type it."""
    kind: ClassVar[str]
    _made: ClassVar[dict[str, Any]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._made = {}

    def once(self, what: str, make: Callable[[], T]) -> T:
        """Make something costly for all tests of the class, and raise what it raised for each of them."""
        if what not in self._made:
            try:
                with restored():
                    self._made[what] = make(), None
            except Exception as exc:
                self._made[what] = None, exc
        found, error = self._made[what]
        if error:
            raise error
        return found  # type: ignore[no-any-return]

    @pytest.fixture
    def options(self) -> dict[str, Any]:
        """The options to test with; override it where the plugin needs some."""
        return {}

    @pytest.fixture(autouse=True)
    def home(self, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A ZOO_HOME of the class's own."""
        folder = self.once("home", lambda: tmp_path_factory.mktemp("home"))
        monkeypatch.setenv("ZOO_HOME", str(folder))
        return folder

    @pytest.fixture
    def catalogue(self) -> Catalogue:
        """All that is installed."""
        return self.once("catalogue", Catalogue.read)

    @pytest.fixture
    def plugin(self, catalogue: Catalogue) -> Plugin:
        """The entry point, found as the command line finds it."""
        return catalogue.find(self.kind, self.name)

    @pytest.fixture
    def loaded(self, catalogue: Catalogue, plugin: Plugin) -> Any:
        """What the entry point names."""
        return catalogue.load(plugin)

    @pytest.fixture
    def known_options(self, loaded: Any) -> Mapping[str, Option]:
        """The options that users can give."""
        return options_of(loaded)

    def test_importing_it_does_nothing_else(self, plugin: Plugin) -> None:
        """No print, no file, no thread, no process, no network; seeds, folder, warnings and signals as they were."""
        verdict = probe(plugin)
        assert not verdict.reason, f"it {verdict.reason}"
        assert not verdict.effects, f"at import it {', '.join(verdict.effects)}; move that into the function"

    def test_it_says_what_it_is(self, loaded: Any) -> None:
        """`zoo show` prints the docstring."""
        text = (loaded.__doc__ or "").strip()
        # A dataclass that has none gets its signature for one.
        text = "" if text.startswith(f"{getattr(loaded, '__name__', None)}(") else text
        assert text, "it has no docstring; write one line that says what it is"

    def test_options_are_documented(self, known_options: Mapping[str, Option]) -> None:
        """Each has a type, a default and a help text (an `Args:` or `Options:` section of the docstring)."""
        silent = [name for name, option in known_options.items() if not option.help]
        assert not silent, f"no help text for {', '.join(silent)}; add an `Args:` section to the docstring"

    def test_options_are_checked(self, known_options: Mapping[str, Option], loaded: Any) -> None:
        """Every option has a type that a value can be checked against; a default passes its own check."""
        untyped = untyped_options(loaded)
        assert not untyped, f"no annotation or no default for {', '.join(untyped)}; users could not give it"
        lost = positional_options(loaded)
        assert not lost, f"users could not give {', '.join(lost)}; put `*` before it in the signature"
        for name, option in known_options.items():
            assert option.type not in (Any, object, type(None)), f"option {name}: no value can be wrong for its type"
            assert check({name: option.default}, known_options, self.name) == {name: option.default}, (
                f"option {name}: its default {option.default!r} is no {option.type_name}"
            )
            if option.type in (int, float, bool):
                with pytest.raises(OptionInvalid):
                    check({name: "no such value"}, known_options, self.name)


def untyped_options(loaded: Any) -> list[str]:
    """Return keyword-only parameters that cannot become options."""
    import inspect

    parameters = inspect.signature(loaded).parameters.values()
    lacking = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.empty in (p.annotation, p.default)]
    return [p.name for p in lacking]


def positional_options(loaded: Any) -> list[str]:
    """Return parameters with defaults that are no options, because they are not keyword-only."""
    import inspect

    parameters = inspect.signature(loaded).parameters.values()
    with_default = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is not p.empty]
    return [name for name in with_default if name not in OFFERED_BY_ZOO]


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Undo what runs inside to this process, so that doing it again can be seen again; random states start anew."""
    import numpy as np

    environment, handlers, hook = dict(os.environ), list(logging.root.handlers), sys.excepthook
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with contained():
        # A seed that is always the same would not show.
        random.seed()
        np.random.seed()
        if "torch" in sys.modules:
            sys.modules["torch"].seed()
        try:
            yield
        finally:
            if dict(os.environ) != environment:
                os.environ.clear()
                os.environ.update(environment)
            logging.root.handlers[:], sys.excepthook = handlers, hook
            for number, handler in signals.items():
                if signal.getsignal(number) is not handler:
                    signal.signal(number, handler)


def changes(act: Callable[[], Any]) -> list[str]:
    """Call `act` and return what of this process it has changed, each as "changes the working folder"."""
    import torch  # now, so that a plugin that loads it moves no random state  # noqa: F401

    with restored():
        before, environment = state(), dict(os.environ)
        act()
        after = state()
        found = [words for words, was in before.items() if after[words] != was]
        return found + (["changes the environment"] if dict(os.environ) != environment else [])


def error_of(act: Callable[[], Any]) -> Exception | None:
    """Call `act` and return what it raised."""
    try:
        act()
    except Exception as exc:
        return exc
    return None


def one_line(exc: BaseException) -> bool:
    """Tell whether an error is one of zoo's, in one line."""
    return isinstance(exc, ZooError) and "\n" not in str(exc)
