"""The mlflow tracker: options, each epoch's numbers and the final ones, in a file of the run or on a server."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import EnvironmentBroken
from zoo_plugins.tracker_process import TrackerOfAProcess

if TYPE_CHECKING:
    from collections.abc import Mapping

ZOO_API = 1
FOLDER = "mlflow"
INSTALL = 'tracker mlflow needs the packages mlflow and sqlalchemy; run `pip install "edgezoo[mlflow]"`'
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    # A server that is away should cost a run seconds, not minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


class MlflowTracker(TrackerOfAProcess):
    """Keep a run in MLflow: in `mlflow/mlflow.db` of the run's folder, or where `tracking_uri` says.

    Options:
        tracking_uri: A server or database; empty means $MLFLOW_TRACKING_URI, else a file in the run's folder.
        experiment: Which runs it stands among.
    """

    def __init__(self, *, tracking_uri: str = "", experiment: str = "zoo") -> None:
        if any(importlib.util.find_spec(name) is None for name in ("mlflow", "sqlalchemy", "alembic")):
            raise EnvironmentBroken(INSTALL)
        self._uri = tracking_uri
        self._experiment = experiment

    def start(self, run: Path, config: Mapping[str, object]) -> None:
        """Open the run, or go on with it: its id stands in the run's folder."""
        folder = run.absolute() / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        uri = self._uri or os.environ.get("MLFLOW_TRACKING_URI", "")
        opening = {"folder": str(folder), "uri": uri, "experiment": self._experiment, "config": dict(config)}
        # Beside its database: the library notes in the home folder whether it may report to its makers.
        home = {"XDG_CONFIG_HOME": str(folder)} if not uri else {}
        self._open(MlflowSession, {**ENVIRONMENT, **home}, opening)


class MlflowSession:
    """The library's side, in a process of its own."""

    def __init__(self, folder: str, uri: str, experiment: str, config: dict[str, object]) -> None:
        from mlflow import MlflowClient

        place = Path(folder)
        self._client = MlflowClient(tracking_uri=uri or f"sqlite:///{place / 'mlflow.db'}")
        self._step = 0
        known = place / "run-id"
        if known.is_file():
            self._run = known.read_text().strip()
            self._client.update_run(self._run, status="RUNNING")
            return
        self._run = self._create(experiment, place, own=not uri)
        for key, value in config.items():
            self._client.log_param(self._run, key, str(value)[:500])
        # Last: an id without its options would never get them.
        known.write_text(self._run + "\n")

    def _create(self, experiment: str, place: Path, *, own: bool) -> str:
        found = self._client.get_experiment_by_name(experiment)
        location = (place / "artifacts").as_uri() if own else None
        number = found.experiment_id if found else self._client.create_experiment(experiment, location)
        run = self._client.create_run(number, run_name=place.parent.name)
        return str(run.info.run_id)

    def epoch(self, metrics: dict[str, float]) -> None:
        """Log an epoch's numbers at its step."""
        self._step = int(metrics.pop("epoch"))
        self.numbers(metrics)

    def numbers(self, metrics: dict[str, float]) -> None:
        """Log numbers at the step of the last epoch."""
        import time

        from mlflow.entities import Metric

        stamp = int(time.time() * 1000)
        self._client.log_batch(self._run, [Metric(key, value, stamp, self._step) for key, value in metrics.items()])

    def end(self, finished: bool) -> None:
        """Say how the run stands."""
        self._client.set_terminated(self._run, "FINISHED" if finished else "KILLED")
