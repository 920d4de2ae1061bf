"""The user's trackers, as one: each hears of a run, and one that fails is dropped with a note while the run goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.catalogue.calling import blaming
from zoo.catalogue.options import check, options_of
from zoo.errors import OptionInvalid, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from zoo.catalogue import Catalogue
    from zoo.contracts.plugins import Tracker


class Trackers:
    """Any number of trackers, also none."""

    def __init__(self, trackers: Mapping[str, Tracker], note: Callable[[str], None]) -> None:
        self._trackers = dict(trackers)
        self._note = note

    def start(self, run: Path, config: Mapping[str, object]) -> None:
        """Tell that `run` begins, or goes on."""
        self._tell(lambda tracker: tracker.start(run, dict(config)))

    def epoch(self, metrics: Mapping[str, float | int]) -> None:
        """Tell of one epoch."""
        self._tell(lambda tracker: tracker.epoch(dict(metrics)))

    def artifact(self, folder: Path, report: Mapping[str, object]) -> None:
        """Tell of an accepted artifact, if the tracker wants to hear of it."""
        self._tell(lambda tracker: getattr(tracker, "artifact", _ignore)(folder, dict(report)))

    def end(self, metrics: Mapping[str, object]) -> None:
        """Tell the final metrics, none if the run was stopped; nobody hears anything after it."""
        self._tell(lambda tracker: tracker.end(dict(metrics)))
        self._trackers.clear()

    def _tell(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                call(tracker)
            except KeyboardInterrupt:
                raise
            except BaseException as exc:
                del self._trackers[name]
                reason = f"{type(exc).__name__}: {first_line(exc)}"
                self._note(f"tracker {name!r} failed and hears no more: {reason}")


def make_trackers(
    catalogue: Catalogue, names: Sequence[str], options: Mapping[str, Any], note: Callable[[str], None]
) -> Trackers:
    """Return the named trackers, made with their options: KEY for the only one, NAME.KEY among several.

    Raises:
        UnknownName, DuplicateName, PluginBroken, OptionInvalid: as the catalogue and the options tell.
    """
    return Trackers({name: make() for name, make in check_trackers(catalogue, names, options).items()}, note)


def check_trackers(
    catalogue: Catalogue, names: Sequence[str], options: Mapping[str, Any]
) -> dict[str, Callable[[], Tracker]]:
    """Find the trackers and check their options; return for each what makes it.

    Making one tells whether all that it needs is there, and does nothing else before its `start`.
    """
    stray = [key for key in options if not any(key.startswith(f"{name}.") for name in names) and len(names) != 1]
    if stray:
        known = " or ".join(f"{name}.{stray[0]}" for name in names) or "--tracker NAME as well"
        raise OptionInvalid(f"--tracker-option {stray[0]} belongs to no tracker; write {known}")
    return {name: _maker(catalogue, name, options) for name in names}


def _maker(catalogue: Catalogue, name: str, options: Mapping[str, Any]) -> Callable[[], Tracker]:
    plugin = catalogue.find("tracker", name)
    make = catalogue.load(plugin)
    own = {k.removeprefix(f"{name}."): v for k, v in options.items() if k.startswith(f"{name}.") or "." not in k}
    checked = check(own, options_of(make), f"tracker {name!r}")

    def make_one() -> Tracker:
        with blaming(plugin):
            tracker: Tracker = make(**checked)
        return tracker

    return make_one


def _ignore(folder: Path, report: Mapping[str, object]) -> None:
    """Stand in for a tracker that does not want to hear of artifacts."""
