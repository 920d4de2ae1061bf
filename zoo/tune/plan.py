"""What one search is: everything that its workers must agree on."""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.errors import Interrupted
from zoo.training.session import check_names
from zoo.tune.space import Dimension, as_options

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from zoo.catalogue import Catalogue
    from zoo.records.config import Resolved
    from zoo.training.watch import Watch
    from zoo.tune.objective import Objective


PRUNERS = ("auto", "median", "hyperband", "none")


@dataclass(frozen=True, kw_only=True)
class TunePlan:
    """A search, checked."""

    catalogue: Catalogue
    folder: Path
    """`runs/tune-NAME`: the database, a folder a trial, the recipe and the page."""
    space: tuple[Dimension, ...]
    objectives: tuple[Objective, ...]
    trials: int
    """How many are to be finished: complete, pruned, or failed for a reason of their own."""
    resolve: Callable[[Mapping[str, Any]], Resolved]
    """Lay a trial's values over what all trials share."""
    make_watch: Callable[[], AbstractContextManager[Watch]]
    storage: str = ""
    """A file or a database's address; empty means `study.db` in the folder."""
    seed: int = 0
    pruner: str = "auto"
    jobs: int = 1

    @property
    def storage_url(self) -> str:
        """The address, as SQLAlchemy takes it."""
        if "://" in self.storage:
            return self.storage
        return f"sqlite:///{self.storage or self.folder / 'study.db'}"

    def settings(self) -> dict[str, str]:
        """Return what must not change while a study goes on, as text, by the words for it."""
        base = self.resolve({}).config.model_dump(mode="json")
        free = {"workers", "threads", "device", "cache", "cache_limit", "checkpoint_minutes", "checkpoint_steps"}
        searched = {dimension.option.partition(".")[0] for dimension in self.space}
        return {
            **{f"--search {d.option}": d.text for d in self.space},
            "--objective": ",".join(o.name for o in self.objectives),
            **{key: str(value) for key, value in base.items() if key not in free | searched},
        }

    def check(self) -> None:
        """Raise for any end of a range, or value of a list, that is no valid option."""

        _ = self.resolve({}).config.chosen_fold  # raises where it is not said which
        for dimension in self.space:
            for value in dimension.corners():
                check_names(self.catalogue, self.resolve(as_options({dimension.option: value})).config)

    def still_wanted(self) -> None:
        """Raise Interrupted in a worker whose search is gone."""
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():
            raise Interrupted("the search that this worker belongs to has ended")
