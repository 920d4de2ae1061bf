"""docs/gpu.md: what stands between the marks is made from the results, what stands around them is written by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.gpu_rows.packages import imports_table
from bench.gpu_rows.report import DONE
from bench.gpu_rows.table import ROWS

if TYPE_CHECKING:
    from bench.gpu_rows.results import Result, Results

RESULTS = ("<!-- made by bench/gpu.py: results: begin -->\n", "\n<!-- results: end -->")
IMPORTS = ("<!-- made by bench/gpu.py: imports: begin -->\n", "\n<!-- imports: end -->")


def with_results(page: str, results: Results) -> str:
    """Return a page with the parts between its marks made anew.

    Raises:
        SystemExit: it has no such marks.
    """
    page = _between(page, RESULTS, results_text(results))
    return _between(page, IMPORTS, imports_table(ROWS.values()))


def _between(page: str, marks: tuple[str, str], text: str) -> str:
    begin, end = marks
    if begin not in page or end not in page.partition(begin)[2]:
        raise SystemExit(f"the page has no lines {begin.strip()!r} and {end.strip()!r}")
    before, _, rest = page.partition(begin)
    return before + begin + text + end + rest.partition(end)[2]


def results_text(results: Results) -> str:
    """Return the machine, and a row for each question."""
    machine = results.machine
    cards = machine.get("cards", [])
    facts = {
        "cards": "; ".join(cards) or "none",
        **{k: v for k, v in machine.items() if k not in ("cards", "packages")},
    }
    lines = [f"- {name}: {_plain(value)}" for name, value in facts.items()]
    packages = machine.get("packages", {})
    lines.append(f"- packages: {', '.join(f'{name} {version}' for name, version in packages.items())}")
    lines += ["", "| row | question | answer |", "| --- | --- | --- |"]
    for name, row in ROWS.items():
        answer = _answer(results.rows[name]) if name in results.rows else "not asked"
        lines.append(f"| {name} | {_plain(row.question)} | {answer} |")
    return "\n".join(lines)


def _answer(result: Result) -> str:
    figures = [f"{name}: {value}" for name, value in result.figures.items()]
    if result.state != DONE:
        figures.insert(0, f"**{result.state}: {result.reason}**" if figures else f"{result.state}: {result.reason}")
    return "<br>".join(_plain(line) for line in figures) or DONE


def _plain(text: Any) -> str:
    """Return text that stays in its cell."""
    return str(text).replace("|", "\\|").replace("\n", " ").replace("<", "&lt;").replace("&lt;br>", "<br>")
