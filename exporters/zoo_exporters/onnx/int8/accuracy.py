"""Making a fast plan accurate: other ranges, moved biases, shared-out scales, and at last the worst layers in float."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from zoo_exporters.onnx.int8.ranges import CALIBRATORS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zoo_exporters.onnx.int8.recipe import Recipe
    from zoo_exporters.onnx.int8.workbench import Trial, Workbench

GIVEN_UP = 0.1
"""Points that weights may lose for sums that saturate nowhere."""


def holds(bench: Workbench, trial: Trial) -> bool:
    """Whether a judged trial is within the budget."""
    return trial.score is not None and trial.score.drop <= bench.request.max_drop


def merit(trial: Trial) -> tuple[float, float, float]:
    """Rank judged trials: the smaller drop, then the more equal answers, then the closer logits."""
    score = trial.score
    return (-max(score.drop, 0.0), score.agreement, score.cosine) if score else (-100.0, 0.0, -1.0)


def make_accurate(bench: Workbench, plan: Trial) -> Trial:
    """Return the plan with the treatment that it needs, judged; it may still be over the budget.

    What is tried changes numbers, not kernels, so the plan's speed stays; layers that go back to float change it.
    """
    best: Trial | None = None
    for treated in _treatments(bench, plan):
        trial = bench.judged(treated)
        best = trial if best is None or merit(trial) > merit(best) else best
        if holds(bench, best) and not bench.effort.every_treatment:
            return _with_the_bits_it_needs(bench, best)
    if best is None:
        return plan
    for changed in _repairs(bench, best):
        trial = bench.judged(changed)
        best = trial if merit(trial) > merit(best) else best
    best = _with_the_bits_it_needs(bench, best)
    if holds(bench, best) or not bench.request.fallback:
        return best
    return _with_worst_in_float(bench, best)


def _with_the_bits_it_needs(bench: Workbench, best: Trial) -> Trial:
    """Use all 8 bits of the weights only where that is worth it: such a file is slow on x86 before VNNI, or wrong."""
    if not bench.bounded or not best.score or best.score.drop <= GIVEN_UP:
        return best
    whole = bench.judged(replace(best, recipe=replace(best.recipe, eight_bits=True)))
    return whole if whole.score and whole.score.drop < best.score.drop - GIVEN_UP else best


def worst_layers(bench: Workbench, recipe: Recipe) -> list[tuple[str, float]]:
    """Return the recipe's layers and how far each of them, alone in int8, moves the answers; the worst first."""
    found = []
    for name in sorted(recipe.static | recipe.dynamic):
        alone = replace(recipe, static=recipe.static & {name}, dynamic=recipe.dynamic & {name}, bias_corrected=False)
        found.append((name, bench.disturbance(alone)))
    return sorted(found, key=lambda item: (-item[1], item[0]))


def _treatments(bench: Workbench, plan: Trial) -> Iterator[Trial]:
    fixed = bench.calibrator
    for calibrator in (fixed,) if fixed else CALIBRATORS:
        if plan.recipe.static or calibrator == (fixed or "minmax"):
            yield replace(plan, recipe=replace(plan.recipe, calibrator=calibrator))


def _repairs(bench: Workbench, best: Trial) -> Iterator[Trial]:
    if best.recipe.static and not best.recipe.bias_corrected:
        yield replace(best, recipe=replace(best.recipe, bias_corrected=True))
        if bench.can_equalize:
            yield replace(best, recipe=replace(best.recipe, equalized=True))
            yield replace(best, recipe=replace(best.recipe, equalized=True, bias_corrected=True))


def _with_worst_in_float(bench: Workbench, trial: Trial) -> Trial:
    """Find by bisection how few of the worst layers must stay in float; return that, judged and timed."""
    bench.request.note("int8 is over the budget; looking for the layers that cost the most")
    order = worst_layers(bench, trial.recipe)
    low, high = 0, len(order)  # with `low` of them in float it is over the budget, with `high` within
    best = trial
    while high - low > 1:
        middle = (low + high) // 2
        found = bench.judged(replace(trial, recipe=_without(trial.recipe, order, middle), speedup=None))
        if holds(bench, found):
            best, high = found, middle
        else:
            low = middle
            best = found if not holds(bench, best) and merit(found) > merit(best) else best
    if best is trial:
        return trial
    gone = _layers(trial.recipe) - _layers(best.recipe)
    kept = tuple((name, moved) for name, moved in order if name in gone)
    return replace(best, speedup=bench.timed(best.recipe).speedup, kept_float=kept)


def _without(recipe: Recipe, order: list[tuple[str, float]], count: int) -> Recipe:
    worst = frozenset(name for name, _ in order[:count])
    return replace(recipe, static=recipe.static - worst, dynamic=recipe.dynamic - worst)


def _layers(recipe: Recipe) -> frozenset[str]:
    return recipe.static | recipe.dynamic
