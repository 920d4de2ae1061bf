"""One trial: values from the study, a run in its folder, its figures; pruned where it falls behind."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import optuna

from zoo.errors import Interrupted, TrainingFailed
from zoo.training.session import start_run
from zoo.training.watch import Watch
from zoo.tune.objective import figure_of, measure
from zoo.tune.space import as_options

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.training.learn.loop import EpochResult
    from zoo.training.learn.state import TrainState
    from zoo.tune.plan import TunePlan


class TrialWatch(Watch):
    """Passes on all that it hears, and stops a run whose trial is not worth going on with."""

    def __init__(self, inner: Watch, trial: optuna.Trial, plan: TunePlan) -> None:
        self._inner, self._trial, self._plan = inner, trial, plan
        self._epochs = 0

    def note(self, text: str) -> None:
        """Pass it on."""
        self._inner.note(text)

    def screening(self, done: int, total: int) -> None:
        """Pass it on."""
        self._inner.screening(done, total)

    def begin(self, state: TrainState, epochs: int, steps_per_epoch: int, batch_size: int) -> None:
        """Pass it on."""
        self._epochs = epochs
        self._inner.begin(state, epochs, steps_per_epoch, batch_size)

    def step(self, state: TrainState) -> None:
        """Pass it on."""
        self._inner.step(state)
        self._plan.still_wanted()

    def epoch(self, result: EpochResult) -> None:
        """Pass it on, tell the study, and raise TrialPruned if it says so."""
        self._inner.epoch(result)
        # Optuna prunes by one figure; with several, being behind in one is no reason to stop.
        if len(self._plan.objectives) > 1 or self._plan.objectives[0].exported:
            return
        self._trial.report(figure_of(result.val, self._plan.objectives[0]), result.epoch)
        # After the last epoch there is nothing left to spare.
        if result.epoch < self._epochs and self._trial.should_prune():
            raise optuna.TrialPruned(f"behind after epoch {result.epoch}")


def trial_folder(plan_folder: Path, number: int) -> Path:
    """Return where trial `number` has its run."""
    return plan_folder / f"trial-{number:03}"


def run_trial(plan: TunePlan, trial: optuna.Trial) -> tuple[float, ...]:
    """Train and measure one trial; only a complete one leaves a folder.

    Raises:
        optuna.TrialPruned: it fell behind.
        TrainingFailed: it diverged or ran out of memory; the trial says why.
        Interrupted: asked to stop; the trial will be made again.
        ZooError: anything else, which would be the same for every trial.
    """
    values = {dimension.option: dimension.suggest(trial) for dimension in plan.space}
    folder = trial_folder(plan.folder, trial.number)
    # A number is given once; what is left there is of a study whose database is gone.
    shutil.rmtree(folder, ignore_errors=True)
    resolved = plan.resolve(as_options(values))
    origins = {**resolved.origins, **dict.fromkeys(as_options(values), "search")}
    told = ", ".join(f"{name} {_short(value)}" for name, value in values.items())
    try:
        with plan.make_watch() as watch:
            watch.note(f"trial {trial.number}: {told}")
            run = start_run(
                plan.catalogue,
                resolved.model_copy(update={"origins": origins}),
                folder,
                TrialWatch(watch, trial, plan),
            )
            found = measure(plan.catalogue, run, plan.objectives, watch.note)
            watch.note(f"trial {trial.number}: {_figures(plan, found)}")
    except BaseException as exc:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(exc, TrainingFailed):
            trial.set_user_attr("error", str(exc))
        if isinstance(exc, Interrupted):
            raise type(exc)("stopped; the same command goes on with the search") from None
        raise
    return found


def _figures(plan: TunePlan, found: tuple[float, ...]) -> str:
    return ", ".join(f"{o.name} {value:.4f}" for o, value in zip(plan.objectives, found, strict=True))


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
