"""The wandb tracker: each epoch's numbers for Weights & Biases, in files of the run until they are sent."""

from __future__ import annotations

import importlib.util
import os
import secrets
from typing import TYPE_CHECKING

from zoo.errors import EnvironmentBroken, OptionInvalid
from zoo_plugins.tracker_process import TrackerOfAProcess

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ZOO_API = 1
FOLDER = "wandb"
MODES = ("offline", "online", "disabled")
INSTALL = 'tracker wandb needs the package wandb; run `pip install "edgezoo[wandb]"`'
ENVIRONMENT = {"WANDB_SILENT": "true", "WANDB_CONSOLE": "off", "WANDB_ERROR_REPORTING": "false"}


class WandbTracker(TrackerOfAProcess):
    """Keep a run for Weights & Biases: offline in `wandb/` of the run's folder, until `wandb sync` sends it.

    Options:
        mode: offline, online or disabled; empty means $WANDB_MODE, else offline.
        project: Which runs it stands among.
        entity: Whose project it is; empty means your own.
    """

    def __init__(self, *, mode: str = "", project: str = "zoo", entity: str = "") -> None:
        if mode and mode not in MODES:
            raise OptionInvalid(f"mode={mode} of tracker wandb is none of {', '.join(MODES)}")
        if importlib.util.find_spec("wandb") is None:
            raise EnvironmentBroken(INSTALL)
        self._mode, self._project, self._entity = mode, project, entity

    def start(self, run: Path, config: Mapping[str, object]) -> None:
        """Open the run, or go on with it: its id stands in the run's folder."""
        folder = run.absolute() / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        mode = self._mode or os.environ.get("WANDB_MODE") or "offline"
        opening = {
            "dir": str(run.absolute()),
            "id": _identity(folder / "run-id"),
            "name": run.absolute().name,
            "mode": mode,
            "project": self._project,
            "entity": self._entity or None,
            "config": dict(config),
            "resume": "allow" if mode == "online" else None,
        }
        self._open(WandbSession, _environment(folder, mode), opening)


class WandbSession:
    """The library's side, in a process of its own."""

    def __init__(self, **opening: object) -> None:
        import wandb

        quiet = wandb.Settings(
            console="off",
            silent=True,
            disable_code=True,
            disable_git=True,
            # Links to the newest part would hide, in a resumed run, that there are older ones.
            symlink=False,
            x_disable_stats=True,
            x_disable_meta=True,
        )
        self._run = wandb.init(settings=quiet, **opening)  # type: ignore[arg-type]

    def epoch(self, metrics: dict[str, float]) -> None:
        """Log an epoch's numbers at its step."""
        self._run.log(metrics, step=int(metrics["epoch"]), commit=True)

    def numbers(self, metrics: dict[str, float]) -> None:
        """Set numbers of the whole run."""
        self._run.summary.update(metrics)

    def end(self, finished: bool) -> None:
        """Write everything out."""
        import wandb

        self._run.finish(exit_code=0 if finished else 1)
        wandb.teardown()


def _identity(file: Path) -> str:
    if not file.is_file():
        file.write_text(secrets.token_hex(4) + "\n")
    return file.read_text().strip()


def _environment(folder: Path, mode: str) -> dict[str, str]:
    """Keep caches and logs inside the run; a user's login is only looked at where it is needed."""
    own = {name: str(folder / ".cache") for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR")}
    if mode != "online":
        own["WANDB_CONFIG_DIR"] = str(folder / ".cache")
    return {**ENVIRONMENT, **own}
