"""Everything about a GPU in one command of under nine minutes: a question a row, each in a process of its own.

    python bench/gpu.py [--only NAME ...] [--out FILE.json [--again]] [--budget SECONDS] [--json]
    python bench/gpu.py --page docs/gpu.md [--out FILE.json]
    python bench/gpu.py --list | --imports

What needs a GPU says "not run: no GPU" where there is none, and the rest is answered in under two minutes. A row that
crashes, hangs or runs out of memory costs only itself; the command goes on, and its exit code is 1 at the end. With
--out, results are kept after each row, and the same command goes on where it was: rows that are there stay, those that
were not run are tried again. Speeds are ratios, both sides in turn, medians of five rounds or more; absolute figures
stand only beside the card's name.

--rehearse goes through the rows for a GPU on the CPU with a tiny network, to see that their code runs: no figure of it
means anything, and no page is made of it. How to run it on a machine that one has for ten minutes: docs/gpu.md.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

# From the tree itself: on the other machine nothing of it is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.gpu_rows.packages import LIMIT, MORE, imports_table, made_known, pip_arguments
from bench.gpu_rows.page import with_results
from bench.gpu_rows.report import DONE, FAILED
from bench.gpu_rows.results import Results
from bench.gpu_rows.runner import ROOT, Runner
from bench.gpu_rows.table import ROWS, Row, matching

BUDGET, WITHOUT_GPU = 540.0, 110.0
"""Seconds for everything."""
PROBE = Row(name="machine", question="What is this machine?", call="bench.gpu_rows.facts:machine", limit=90, cards=0)
KEPT = Path("docs/gpu.json")
"""The results that the page in docs is made from."""


def main() -> None:
    given = arguments()
    # As Ctrl-C does: the row that is being answered is ended as well.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    if given.list:
        print("\n".join(f"{row.name:16} {row.question}" for row in ROWS.values()))
        return
    if given.imports:
        print(imports_table(ROWS.values()))
        print(f"\nunder {LIMIT:.0f} MB: {pip_arguments()}\nfor whole runs: {pip_arguments(MORE)}")
        return
    if given.page:
        make_page(given.page, given.out or ROOT / KEPT)
        return
    rows = matching(given.only, ROWS)
    results = Results(given.out)
    with tempfile.TemporaryDirectory(prefix="zoo-gpu-", ignore_cleanup_errors=True) as scratch:
        answer(rows, results, Path(scratch), given)
    if given.json:
        print(json.dumps(results.to_json()))
    if any(results.rows[row.name].state == FAILED for row in rows):
        raise SystemExit(1)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="names or globs of rows")
    parser.add_argument("--out", type=Path, metavar="FILE", help="a JSON file of results: what it holds is kept")
    parser.add_argument("--again", action="store_true", help="answer also what the file holds")
    parser.add_argument(
        "--budget", type=float, help=f"seconds [default: {BUDGET:.0f}; without a GPU {WITHOUT_GPU:.0f}]"
    )
    parser.add_argument("--page", type=Path, help=f"make this page from the results [default: of {KEPT}]; runs nothing")
    parser.add_argument("--list", action="store_true", help="name the rows")
    parser.add_argument("--imports", action="store_true", help="tell what rows import, and what it weighs")
    parser.add_argument("--rehearse", action="store_true", help="go through the code of GPU rows on the CPU")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.rehearse and given.out:
        parser.error("a rehearsal finds nothing that is worth keeping: leave --out away")
    return given


def answer(rows: list[Row], results: Results, scratch: Path, given: argparse.Namespace) -> None:
    """Look at the machine, then answer the rows; tell each on stderr where stdout is for JSON."""
    note = (lambda text: print(text, file=sys.stderr, flush=True)) if given.json else _say
    known = made_known(ROOT, scratch)
    runner = Runner(
        folder=scratch,
        budget=given.budget or BUDGET,
        rehearsal=given.rehearse,
        paths=(known,) if known else (),
        note=note,
    )
    results.go_on(machine(runner))
    cards = results.machine["cards"]
    note(f"{'; '.join(cards) or 'no GPU'}, {results.machine.get('processor', 'unknown processor')}")
    if not cards and not given.rehearse and not given.budget:
        runner.budget = WITHOUT_GPU
    runner.run_all(rows, results, again=given.again)


def _say(text: str) -> None:
    print(text, flush=True)


def machine(runner: Runner) -> dict[str, Any]:
    """Return what this machine is; where even that cannot be told, one without cards, and why."""
    probe = runner.run(PROBE)
    found: dict[str, Any] = {"cards": [], "packages": {}}
    for name, value in probe.figures.items():
        kind, _, rest = name.partition(" ")
        if kind == "card":
            found["cards"].append(value)
        elif kind == "package":
            found["packages"][rest] = value
        else:
            found[name] = value
    return found if probe.state == DONE else {**found, "trouble": probe.reason}


def make_page(page: Path, out: Path) -> None:
    """Write the results into a page, whatever was written around them."""
    if not out.is_file():
        raise SystemExit(f"{out}: no such file; run `python bench/gpu.py --out {out}` first")
    page.write_text(with_results(page.read_text(encoding="utf-8"), Results(out)), encoding="utf-8")


if __name__ == "__main__":
    main()
