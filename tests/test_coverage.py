"""The coverage matrix: its page says what its numbers say, no family of timm is passed over, a hang costs one row."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from .conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

CONTRACT = {
    "family",
    "model",
    "fp32_proven",
    "int8_proven",
    "reference_top1",
    "int8_drop",
    "speedup",
    "precision",
    "seconds",
    "reason",
}
"""What others may read of docs/coverage.json."""


@pytest.fixture(scope="module")
def coverage() -> Any:
    spec = importlib.util.spec_from_file_location("coverage_bench", ROOT / "bench/coverage.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((ROOT / "docs/coverage.json").read_text())
    return found


def row(coverage: Any, **values: Any) -> dict[str, Any]:
    made = {"date": "2026-11-22", "processor": "some CPU", "torch": "2.15.0"}
    first = {"family": "resnet", "model": "resnet18", "options": {}, "image_size": 96, "made": made}
    return {**first, **coverage.EMPTY, "seconds": 9.0, **values}


def test_the_page_is_what_the_numbers_give(coverage: Any, rows: list[dict[str, Any]]) -> None:
    assert (ROOT / "docs/coverage.md").read_text() == coverage.page(rows, coverage.read_table())


def test_every_family_of_timm_has_a_member_and_is_on_the_page(coverage: Any) -> None:
    import timm

    families, members = set(timm.list_modules()), coverage.read_table()
    assert set(members) == families
    assert not [f for f in families if members[f]["model"] not in timm.list_models(module=f)]
    page = (ROOT / "docs/coverage.md").read_text()
    assert not [family for family in families if family not in page]


def test_each_row_keeps_the_contract_and_tells_why(rows: list[dict[str, Any]]) -> None:
    for found in rows:
        assert found.keys() >= CONTRACT, found
        assert found["int8_proven"] == (found["precision"] == "int8"), found
        assert found["int8_proven"] != bool(found["reason"]), found
        assert not (found["int8_proven"] and not found["fp32_proven"]), found
        assert not (found["slow_only"] and found["int8_proven"]), found


def test_shares_count_what_was_refused_for_its_speed_alone(coverage: Any) -> None:
    accepted = {"fp32_proven": True, "int8_proven": True, "speedup": 2.0, "precision": "int8"}
    rows = [
        row(coverage, **accepted),
        row(coverage, family="vgg", fp32_proven=True, slow_only=True, reason="speed over fp32 0.9, limit 1"),
        row(coverage, family="dla", fp32_proven=True, reason="drop of top-1 in points 3, limit 1"),
        row(coverage, family="tnt", reason="training: out of memory"),
    ]
    assert coverage.ratios(rows) == {"fp32_proven": 0.75, "int8_proven": 0.25, "int8_proven_or_slow": 0.5}


def test_the_page_names_the_missing_and_each_reason(coverage: Any) -> None:
    told = coverage.page([row(coverage, reason="training: out of memory")], {"resnet": {}, "vgg": {}})
    assert "Not measured yet: vgg." in told
    assert "- **resnet** (resnet18): training: out of memory" in told
    assert "| resnet | resnet18 | 96 |" in told


@pytest.mark.slow
def test_a_family_that_takes_too_long_costs_one_row(coverage: Any, tmp_path: Path) -> None:
    (tmp_path / "bench").mkdir()
    for name in ("coverage.py", "coverage.toml"):
        shutil.copy(ROOT / "bench" / name, tmp_path / "bench")
    command = [sys.executable, "bench/coverage.py", "--families", "resnet", "--limit-seconds", "1", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["fp32_proven"] == 0
    (found,) = json.loads((tmp_path / "docs/coverage.json").read_text())
    assert found["reason"] == "not finished after 1 s"
    assert (tmp_path / "docs/coverage.md").read_text() == coverage.page([found], coverage.read_table())
