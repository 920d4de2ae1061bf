"""fp32 graph -> the fastest int8 graph that keeps its answers, with an account of what was tried."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import ExportUnsupported
from zoo.plugin import Attempt, Made
from zoo_exporters.onnx.int8.accuracy import holds, make_accurate, merit
from zoo_exporters.onnx.int8.effort import effort_of
from zoo_exporters.onnx.int8.journal import Journal
from zoo_exporters.onnx.int8.plans import FINALISTS, TIE, as_fast, fastest
from zoo_exporters.onnx.int8.prepare import silent_sessions
from zoo_exporters.onnx.int8.ranges import calibrator_of
from zoo_exporters.onnx.int8.workbench import Workbench

if TYPE_CHECKING:
    from onnx import ModelProto

    from zoo.plugin import ExportRequest
    from zoo_exporters.onnx.int8.workbench import Trial

MARGIN = 1.02
"""By how much the search wants more speed than the proof asks for, since the proof measures again."""
NAMED_LAYERS = 3


def check_words(options: dict[str, object]) -> None:
    """Look at what a user can say of a search, before anything runs.

    Raises:
        OptionInvalid: an unknown `search` or `calibration_method`.
    """
    effort_of(options)
    calibrator_of(options)


def search(model: ModelProto, request: ExportRequest) -> tuple[ModelProto, Made]:
    """Return the winner in QDQ form, and what there is to tell of it.

    Speed first: plans are timed and improved; then the fastest is made accurate, and the next if that fails. If nothing
    holds, what came closest is returned, for the proof to refuse.

    Raises:
        ExportUnsupported: no calibration images, or no layer that int8 could compute.
        OptionInvalid: an unknown `search` or `calibration_method`.
    """
    effort = effort_of(dict(request.options))
    journal = Journal(request.workspace, _fingerprint(model, request))
    with silent_sessions(), tempfile.TemporaryDirectory(prefix="zoo-int8-") as folder:
        bench = Workbench(model, request, effort, journal, Path(folder))
        if journal.known:
            request.note(f"going on with a search that was stopped after {journal.known} candidates")
        if not bench.products:
            raise ExportUnsupported("it has no convolution or matrix product with constant weights; use --fp32")
        request.note("int8 search: which layers are faster in int8 here")
        plans = fastest(bench)
        if not plans:
            failures = {attempt.verdict for attempt in bench.attempts.values()}
            raise ExportUnsupported(
                f"onnx int8: every candidate {min(failures)}; use --fp32 or --precision int8-weights"
            )
        winner = _first_that_holds(bench, plans)
        return bench.build(winner.recipe), _made(bench, winner)


def _first_that_holds(bench: Workbench, plans: list[Trial]) -> Trial:
    floor = MARGIN * (bench.request.min_speedup or 0.0)
    worthy = [plan for plan in plans if (plan.speedup or 0) >= floor] or plans[:1]
    bench.request.note(f"int8 search: {len(bench.attempts)} plans timed, the fastest {worthy[0].speedup:.2f}x of fp32")
    best: Trial | None = None
    for plan in worthy[: bench.effort.plans]:
        if best and holds(bench, best) and as_fast(best, plan):
            break
        found = make_accurate(bench, plan)
        best = found if best is None or _rank(bench, found, floor) > _rank(bench, best, floor) else best
    return best or plans[0]


def _rank(bench: Workbench, trial: Trial, floor: float) -> tuple[bool, float, tuple[float, float, float]]:
    good = holds(bench, trial) and (trial.speedup or 0) >= floor
    return good, (trial.speedup or 0) if good else 0.0, merit(trial)


def _made(bench: Workbench, winner: Trial) -> Made:
    recipe = winner.recipe
    notes = [f"of {len(bench.attempts)} candidates: {recipe.describe(bench.products)}"]
    for name, moved in winner.kept_float[:NAMED_LAYERS]:
        notes.append(f"{name} stays in float: alone in int8 it moves the logits by {moved:.2g} (1 - cosine)")
    if len(winner.kept_float) > NAMED_LAYERS:
        notes.append(f"{len(winner.kept_float) - NAMED_LAYERS} more layers stay in float for accuracy")
    layers = {
        product.name: "int8"
        if product.name in recipe.static
        else "int8, dynamic"
        if product.name in recipe.dynamic
        else "float"
        for product in bench.products
    }
    attempts = [
        replace(attempt, verdict=_verdict(bench, attempt, winner, chosen=key == recipe.key))
        for key, attempt in bench.attempts.items()
    ]
    return Made(notes=tuple(notes), attempts=tuple(attempts), layers=layers)


def _verdict(bench: Workbench, attempt: Attempt, winner: Trial, *, chosen: bool) -> str:
    if chosen or attempt.verdict:
        return "chosen" if chosen else attempt.verdict
    if attempt.score and attempt.score.drop > bench.request.max_drop:
        return f"loses {attempt.score.drop:.2f} points"
    # Told to three digits: a treatment of the same plan is not slower by what rounding takes away.
    best, speed = round(winner.speedup or 0.0, 3), attempt.speedup or 0.0
    if speed < best:
        return "slower"
    if attempt.score:
        # Only weights of all bits can be closer and not be chosen.
        closer = winner.score is not None and attempt.score.drop < winner.score.drop
        return "closer, by too little for weights that may saturate" if closer else "no closer"
    if attempt.size_bytes is None:
        return f"timed alone: not among the {FINALISTS} that were then timed together"
    return "as fast, in a larger file" if speed <= TIE * best else "faster: it could not be made accurate"


def _fingerprint(model: ModelProto, request: ExportRequest) -> str:
    parts = (model.SerializeToString(deterministic=True), repr(request.target), repr(sorted(request.options.items())))
    return hashlib.sha256(b"".join(p if isinstance(p, bytes) else p.encode() for p in parts)).hexdigest()
