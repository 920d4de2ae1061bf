"""The page of a run stands alone, and shows what the record says."""

from __future__ import annotations

import html.parser
import json
from typing import TYPE_CHECKING

from zoo.records.page import render_report

if TYPE_CHECKING:
    from zoo.records.run import Run


class Reader(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def epochs(run: Run) -> list[dict[str, float]]:
    return [json.loads(line) for line in run.metrics_file.read_text().splitlines()]


def test_a_run_has_a_page_that_needs_nothing_else(trained_run: Run) -> None:
    reader = Reader()
    reader.feed(trained_run.report_file.read_text())
    assert reader.addresses == []
    test = trained_run.record().metrics["test"]
    assert f"{100 * test['top1']:.2f} % top-1" in reader.words


def test_names_are_never_taken_for_markup(trained_run: Run) -> None:
    record = trained_run.record().model_copy(update={"dataset": "<script>alert(1)</script>"})
    assert "<script>" not in render_report("<b>run</b>", record, epochs(trained_run))
    assert "<b>" not in render_report("<b>run</b>", record, epochs(trained_run))


def test_many_classes_become_a_list_of_mistakes(trained_run: Run) -> None:
    record = trained_run.record()
    names = [f"c{i}" for i in range(50)]
    confusion = [[3 if i == j else int(j == 7) for j in range(50)] for i in range(50)]
    facts = {"precision": 1.0, "recall": 1.0, "f1": 1.0, "images": 3}
    test = {**record.metrics["test"], "per_class": dict.fromkeys(names, facts), "confusion": confusion}
    changed = record.model_copy(update={"metrics": {**record.metrics, "test": test}})
    page = render_report("n", changed, epochs(trained_run))
    assert "taken for" in page
    assert "true \\ predicted" not in page
