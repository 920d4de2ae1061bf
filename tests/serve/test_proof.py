"""Good clients among hostile ones: every answer is right and none is lost; bench/serve.py prints what it costs."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from bench import serve as bench
from bench.serving.client import goods, picture, right
from bench.serving.server import Served
from zoo.runtime.model import Model

from ..conftest import ROOT
from .conftest import serving

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.records.artifact import Artifact

BENCH = ROOT / "bench/serve.py"


def test_good_clients_notice_nothing_of_hostile_ones(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "CLIENTS", 16)
    run = bench._runner()
    with serving(colours, tmp_path) as served:
        clients = bench.Bench(Served(served.process, served.port), colours)
        clients.slow = {}  # they take ten seconds, and test_connections.py has them
        seen = run(clients.mixture(3.0, 120.0))
        ended = run(clients.sigterm())
        assert served.process.wait(30) == 0
    assert len(seen.seconds) > 100
    assert seen.bad > 20
    for one in (seen, ended):
        assert (one.lost, one.mixed_up, one.refused, one.wrong_status) == ([], 0, 0, [])
    assert len(ended.seconds) > 16


def test_the_clients_of_this_proof_would_notice(colours: Path) -> None:
    first, second = goods(colours, 2)
    found = Model(colours).predict(picture(0, (16, 16)), top=3)[0].to_json()
    body = json.dumps({"predictions": [found]}).encode()
    assert right(first, body, ("red", "green", "blue"))
    assert not right(second, body, ("red", "green", "blue"))


@pytest.mark.slow
@pytest.mark.proof
def test_a_minute_of_64_clients_loses_and_mixes_up_nothing(onnx_artifact: Artifact, tmp_path: Path) -> None:
    """How fast it is meanwhile depends on who else uses the machine: the bench prints that."""
    command = [sys.executable, str(BENCH), str(onnx_artifact.path), "--only", "proof", "--seconds", "60", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["good"] > 1000
    assert found["bad"] > 200
    for name in ("lost", "mixed_up", "wrong_answers", "lost_at_sigterm", "exit_code"):
        assert found[name] == 0, done.stdout
    assert found["memory_growth"] < 0.05
    assert found["slowest_loris_seconds"] < 10
