"""An x86 without VNNI: a stored int8 file answers there as on the processor that proved it, and would not by itself."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from ..conftest import ROOT
from ..tools import call

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("devices")]

STORED = ROOT / "tests/stability/stored/schema-1/export/onnx-int8"
ASK = """
import sys
from pathlib import Path
import numpy as np
import onnxruntime
from zoo_runtime.golden import read_golden
from zoo_runtime.session import OnnxPredictor

folder = Path(sys.argv[1])
golden, file = read_golden(folder), folder / "model.onnx"
plain = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
answers = [plain.run(None, {"image": golden["images"]})[0]]
answers += [OnnxPredictor(file, threads=1, fused=fused)(golden["images"]) for fused in (True, False)]
print([float(np.abs(found - golden["artifact"]).max()) for found in answers])
"""


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    """A folder with the runtime in it, as a bundle has it."""
    shutil.copytree(ROOT / "zoo/runtime", tmp_path / "zoo_runtime")
    return tmp_path


def test_a_stored_file_gives_its_golden_answers_on_a_haswell(haswell_python: list[str], runtime: Path) -> None:
    plain, ours, unfused = json.loads(call(*haswell_python, "-c", ASK, STORED, cwd=runtime))
    assert plain > 0.05
    assert ours == 0
    assert unfused < 0.05


def test_a_selftest_says_that_this_is_a_haswell(haswell_python: list[str], runtime: Path) -> None:
    command = [*haswell_python, "-m", "zoo_runtime", "selftest", "--bundle", str(STORED)]
    told = json.loads(call(*command, "--json", cwd=runtime))
    assert (told["ok"], told["difference"], told["saturates"]) == (True, 0, True)
    assert told["processor"].startswith("x86-64 without VNNI: ")
    assert f"processor: {told['processor']}\n" in call(*command, cwd=runtime)
