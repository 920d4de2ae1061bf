"""Making a search's outcome from its study: the table, what mattered, the page, and the recipe."""

from __future__ import annotations

import functools
import json
import warnings
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from zoo.disk.files import write_text
from zoo.errors import TrainingFailed
from zoo.records.run import Run
from zoo.tune.outcome import TrialRow, TuneResult
from zoo.tune.report import render_report
from zoo.tune.study import ERROR
from zoo.tune.trial import trial_folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from zoo.tune.plan import TunePlan


NOT_OF_A_RECIPE = frozenset(
    {"model", "dataset", "dataset_options", "trackers", "tracker_options", "license_allow", "seed", "threads", "device"}
)
"""What belongs to one run or one machine, not to how a model is trained."""


def conclude(plan: TunePlan, study: optuna.Study) -> TuneResult:
    """Write the recipe and the page, and return what they tell.

    Raises:
        TrainingFailed: no trial was complete.
    """
    rows = tuple(_row(plan, trial) for trial in study.get_trials(deepcopy=False) if _counts(trial))
    if not any(row.state == "complete" for row in rows):
        reason = next((row.error for row in rows if row.error), "all were pruned")
        raise TrainingFailed(f"no trial of {plan.folder} was complete: {reason}; change what is searched")
    best = _best(plan, study)
    for number in best if len(plan.objectives) > 1 else ():
        _write_recipe(plan.folder / f"recipe-{number:03}.toml", plan, rows, number)
    recipe = plan.folder / "recipe.toml"
    _write_recipe(recipe, plan, rows, best[0])
    result = TuneResult(
        folder=plan.folder,
        objectives=plan.objectives,
        trials=rows,
        best=best,
        importance=_importance(plan, study),
        recipe=recipe,
    )
    write_text(plan.folder / "report.html", render_report(result))
    return result


def toml_of(values: Mapping[str, Any]) -> str:
    """Write training options as TOML: texts, numbers, lists, and tables in one line."""
    return "".join(f"{key} = {_toml(value)}\n" for key, value in values.items())


def _toml(value: Any) -> str:
    if isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{_toml(str(key))} = {_toml(item)}' for key, item in value.items())} }}"
    return repr(value)


def _counts(trial: FrozenTrial) -> bool:
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or ERROR in trial.user_attrs


def _row(plan: TunePlan, trial: FrozenTrial) -> TrialRow:
    complete = trial.state == TrialState.COMPLETE
    names = [objective.name for objective in plan.objectives]
    return TrialRow(
        number=trial.number,
        state={TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}.get(trial.state, "failed"),
        params=dict(trial.params),
        values=dict(zip(names, trial.values, strict=True)) if complete else {},
        seconds=round(trial.duration.total_seconds(), 1) if trial.duration else 0.0,
        error=str(trial.user_attrs.get(ERROR, "")),
        run=str(trial_folder(plan.folder, trial.number)) if complete else "",
    )


def _best(plan: TunePlan, study: optuna.Study) -> tuple[int, ...]:
    sign = -1 if plan.objectives[0].maximize else 1
    found = sorted(study.best_trials, key=lambda trial: (sign * trial.values[0], trial.number))
    # Equal figures are equally good to Optuna; one objective has one winner.
    return tuple(trial.number for trial in (found if len(plan.objectives) > 1 else found[:1]))


def _write_recipe(file: Path, plan: TunePlan, rows: tuple[TrialRow, ...], number: int) -> None:
    """Write what makes that trial again, complete: it needs no other recipe below it."""
    row = next(row for row in rows if row.number == number)
    record = Run(trial_folder(plan.folder, number)).record()
    chosen = {
        key: record.config[key]
        for key, origin in record.origins.items()
        if origin != "default" and not origin.startswith("model ") and key not in NOT_OF_A_RECIPE
    }
    figures = ", ".join(f"{name} {value:.4f}" for name, value in row.values.items())
    head = f"# Trial {number} of {plan.folder.name}: {record.model} on {record.dataset}, {figures}\n"
    write_text(file, head + toml_of(chosen))


def _value(index: int, trial: FrozenTrial) -> float:
    return float(trial.values[index])


def _importance(plan: TunePlan, study: optuna.Study) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for index, objective in enumerate(plan.objectives):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                shares = optuna.importance.get_param_importances(study, target=functools.partial(_value, index))
        except (ValueError, RuntimeError):  # one trial, or figures that do not differ
            continue
        found[objective.name] = {name: round(float(share), 4) for name, share in shares.items() if share == share}
    return {name: shares for name, shares in found.items() if shares}
