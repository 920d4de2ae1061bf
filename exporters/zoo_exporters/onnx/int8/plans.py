"""Which layers are worth computing in int8: starting points, improved by measured speed, group of layers by group."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from zoo_exporters.onnx.int8.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from zoo_exporters.onnx.int8.products import Product
    from zoo_exporters.onnx.int8.workbench import Trial, Workbench

GAIN = 1.015
"""The least by which a change must be faster to be kept: less is noise."""
FINALISTS = 4
"""Plans that are timed once more, together."""
TIE = 1.03
"""Plans are equally fast up to here: which of them is first differs from run to run, their sizes do not."""
SLOW_IN_INT8 = frozenset({"depthwise", "grouped", "gate"})


def fastest(bench: Workbench) -> list[Trial]:
    """Return plans, the fastest first: starting points, and what the best of them were improved to.

    Of those that are as fast as the first, the one with the smallest file comes first.
    """
    trials = _sorted([bench.timed(start) for start in starts(bench.products, bench.has_hard_sigmoid)])
    improved = [_descend(bench, trial) for trial in trials[: bench.effort.descents]]
    unique = {trial.recipe.key: trial for trial in (*trials, *improved) if trial.speedup}
    ranked = _sorted(list(unique.values()))
    finalists = _sorted(bench.timed_together(ranked[:FINALISTS]))
    tied = [trial for trial in finalists if as_fast(trial, finalists[0])]
    return sorted(tied, key=lambda trial: bench.size(trial.recipe)) + finalists[len(tied) :] + ranked[FINALISTS:]


def as_fast(trial: Trial, other: Trial) -> bool:
    """Whether one is as fast as another, or faster."""
    return TIE * (trial.speedup or 0) >= (other.speedup or 0)


def starts(products: Sequence[Product], hard_sigmoid: bool) -> list[Recipe]:
    """Return recipes of very different kinds, as a model of any family may want them.

    Most start with the first convolution in float as well: three channels fill few int8 kernels.
    """
    whole = frozenset(product.name for product in products)
    every = frozenset(product.name for product in products if product.kind != "stem")
    matrices = frozenset(product.name for product in products if product.kind == "matrix")
    slow = frozenset(product.name for product in products if product.kind in SLOW_IN_INT8)
    found = [Recipe(static=part, follow=follow) for part in (whole, every) for follow in ("all", "linear", "products")]
    found.append(Recipe(static=every - slow, follow="linear"))
    if hard_sigmoid:
        found += [Recipe(static=part, follow="all", saturate=True) for part in (whole, every)]
    if len(matrices) > 1:
        found.append(Recipe(dynamic=matrices))
        found += [Recipe(static=every - matrices, dynamic=matrices, follow=f) for f in ("linear", "products")]
        found.append(Recipe(static=every - matrices - slow, dynamic=matrices, follow="linear"))
        found.append(Recipe(static=every, follow="products", float_results=True))
    # Without a static product nothing can follow one.
    unique = {replace(r, follow="linear").key if not r.static else r.key: r for r in found if r.static or r.dynamic}
    return list(unique.values())


def _descend(bench: Workbench, best: Trial) -> Trial:
    """Turn each group of layers to float, or to int8, and keep what is faster."""
    for names in _groups(bench):
        for changed in _alternatives(best.recipe, names, bench.matrices):
            trial = bench.timed(changed)
            if (trial.speedup or 0) > GAIN * (best.speedup or 0):
                best = trial
    return best


def _groups(bench: Workbench) -> list[frozenset[str]]:
    """Return layers of one kind and size, the most expensive first; then, if there is time, single layers."""
    costs: dict[str, int] = defaultdict(int)
    members: dict[str, set[str]] = defaultdict(set)
    for product in bench.products:
        costs[product.group] += product.cost
        members[product.group].add(product.name)
    order = sorted(members, key=lambda key: -costs[key])[: bench.effort.groups]
    singles = sorted(bench.products, key=lambda product: -product.cost)[: bench.effort.single_layers]
    return [*(frozenset(members[key]) for key in order), *(frozenset({product.name}) for product in singles)]


def _alternatives(recipe: Recipe, names: frozenset[str], matrices: frozenset[str]) -> Iterator[Recipe]:
    static, dynamic = recipe.static - names, recipe.dynamic - names
    ways = [replace(recipe, static=static, dynamic=dynamic), replace(recipe, static=static | names, dynamic=dynamic)]
    if names <= matrices:
        ways.append(replace(recipe, static=static, dynamic=dynamic | names))
    yield from (way for way in ways if way != recipe and (way.static or way.dynamic))


def _sorted(trials: list[Trial]) -> list[Trial]:
    return sorted(trials, key=lambda trial: -(trial.speedup or 0))
