"""The study in its database: opened or gone on with, worked on by any number of workers, tidied after a kill."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import time
import warnings
from typing import TYPE_CHECKING, Any

import filelock
import optuna
from optuna.trial import TrialState

from zoo.errors import EnvironmentBroken, OptionInvalid, TrainingFailed, first_line
from zoo.tune.trial import run_trial, trial_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zoo.tune.plan import TunePlan

HEARTBEAT_SECONDS = 20
"""How often a running trial says in the database that it is alive; five times as long without it is the end of it."""
SETTINGS, WORKER, ERROR = "zoo settings", "worker", "error"
WAIT_SECONDS = 0.5


def open_study(plan: TunePlan) -> optuna.Study:
    """Return the plan's study, made if it is new.

    Raises:
        OptionInvalid: it was begun with other settings; each is named.
        EnvironmentBroken: its database cannot be reached.
    """
    # Of a failed trial it would print the traceback.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    plan.folder.mkdir(parents=True, exist_ok=True)
    try:
        study = optuna.create_study(
            storage=_storage(plan),
            study_name=plan.folder.name,
            pruner=_pruner(plan),
            directions=[objective.direction for objective in plan.objectives],
            load_if_exists=True,
        )
        begun = study.user_attrs.get(SETTINGS)
        if begun is None:
            study.set_user_attr(SETTINGS, plan.settings())
    except OptionInvalid:
        raise
    except Exception as exc:
        # SQLAlchemy's and each driver's own errors have no root that is ours to import.
        raise EnvironmentBroken(
            f"the study's database {plan.storage_url} cannot be used: {first_line(exc)}; name another with --storage"
        ) from exc
    if begun is not None:
        _refuse_other_settings(plan, begun)
    return study


def work(plan: TunePlan, study: optuna.Study, note: Callable[[str], None]) -> None:
    """Run trials until as many are finished as were asked for, by this worker and all others together."""
    while True:
        bury_the_dead(plan, study, note)
        lock = filelock.FileLock(plan.folder / ".asking")
        lock.acquire()
        try:
            finished, running = count(study)
            if finished + running < plan.trials:
                _one_trial(plan, study, lock, note)
                continue
        finally:
            lock.release(force=True)
        if finished >= plan.trials:
            return
        plan.still_wanted()
        time.sleep(WAIT_SECONDS)


def count(study: optuna.Study) -> tuple[int, int]:
    """Return how many trials are finished, and how many are running."""
    trials = study.get_trials(deepcopy=False)
    return sum(is_finished(trial) for trial in trials), sum(trial.state == TrialState.RUNNING for trial in trials)


def is_finished(trial: optuna.trial.FrozenTrial) -> bool:
    """Tell whether a trial has its answer; one that was killed has none, and is made again."""
    failed = trial.state == TrialState.FAIL and ERROR in trial.user_attrs
    return failed or trial.state in (TrialState.COMPLETE, TrialState.PRUNED)


def bury_the_dead(plan: TunePlan, study: optuna.Study, note: Callable[[str], None]) -> None:
    """Call those trials failed whose worker is gone, and remove what they left."""
    with _experiments():
        optuna.storages.fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        host, _, number = trial.user_attrs.get(WORKER, "").rpartition(":")
        # Of this machine it is known at once; of others only by their silence.
        if host == socket.gethostname() and not _lives(int(number)):
            study.tell(trial.number, state=TrialState.FAIL)
            note(f"trial {trial.number} was killed; another is made in its place")
    for trial in study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
        shutil.rmtree(trial_folder(plan.folder, trial.number), ignore_errors=True)


def _one_trial(plan: TunePlan, study: optuna.Study, lock: Any, note: Callable[[str], None]) -> None:
    # A sampler of its own for each trial: one seeded once would begin with the same values after each start.
    study.sampler = _sampler(plan, len(study.get_trials(deepcopy=False)))

    def objective(trial: optuna.Trial) -> tuple[float, ...]:
        trial.set_user_attr(WORKER, f"{socket.gethostname()}:{os.getpid()}")
        lock.release(force=True)
        return run_trial(plan, trial)

    try:
        with _experiments():
            study.optimize(objective, n_trials=1)
    except TrainingFailed as exc:
        note(f"a trial failed: {exc}")


@contextlib.contextmanager
def _experiments() -> Iterator[None]:
    """Heartbeats and some of the sampler are experiments to Optuna, which says so each time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def _storage(plan: TunePlan) -> Any:
    # Several workers write one file: each waits for the others' locks.
    arguments = {"connect_args": {"timeout": 60}} if plan.storage_url.startswith("sqlite:") else {}
    with _experiments():
        return optuna.storages.RDBStorage(
            plan.storage_url,
            engine_kwargs=arguments,
            heartbeat_interval=HEARTBEAT_SECONDS,
            grace_period=5 * HEARTBEAT_SECONDS,
        )


def _sampler(plan: TunePlan, number: int) -> optuna.samplers.BaseSampler:
    # The constant liar keeps workers from trying the same.
    with _experiments():
        return optuna.samplers.TPESampler(seed=(plan.seed * 100_003 + number) % 2**32, constant_liar=plan.jobs > 1)


def _pruner(plan: TunePlan) -> optuna.pruners.BasePruner:
    if plan.pruner == "none" or len(plan.objectives) > 1:
        return optuna.pruners.NopPruner()
    if plan.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(max_resource=max(plan.resolve({}).config.epoch_count, 2))
    # The first epoch, in which the learning rate still rises, says little.
    return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=2)


def _refuse_other_settings(plan: TunePlan, begun: dict[str, str]) -> None:
    now = plan.settings()
    changed = [
        f"{key} was {begun.get(key, 'absent')}, now {now.get(key, 'absent')}"
        for key in dict.fromkeys([*begun, *now])
        if begun.get(key) != now.get(key)
    ]
    if changed:
        raise OptionInvalid(
            f"{plan.folder} goes on as it began: {'; '.join(changed)}; leave that, or search under another --name"
        )


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
