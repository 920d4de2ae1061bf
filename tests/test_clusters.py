"""The examples of docs/clusters.md: right in syntax, their options exist, and the SLURM one trains on two agents."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from .conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PAGE = (ROOT / "docs/clusters.md").read_text()
SBATCH = {
    "job-name",
    "nodes",
    "ntasks-per-node",
    "gpus-per-node",
    "cpus-per-task",
    "time",
    "signal",
    "requeue",
    "open-mode",
}
"""Those options of `sbatch` that the example uses, as its manual has them."""
TRAINING = (
    "test_vit --dataset digits --no-pretrained --image-size 32 --epochs 2 --device cpu --set threads=1 --precision fp32"
)


def example(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found
    return found[1]


def torchrun_of_slurm() -> list[str]:
    script = example("bash").replace("\\\n", " ")
    return shlex.split(next(line for line in script.splitlines() if line.startswith("srun ")))


def torchrun_of_kubernetes() -> list[str]:
    job = list(yaml.safe_load_all(example("yaml")))[1]
    container = job["spec"]["template"]["spec"]["containers"][0]
    return [*container["command"], *container["args"]]


def validated(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    file = folder / "job.yaml"
    file.write_text(text)
    command = [sys.executable, "-m", "kubernetes_validate", "--strict", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_slurm_script_is_a_script(tmp_path: Path) -> None:
    (tmp_path / "job.sh").write_text(example("bash"))
    subprocess.run(["bash", "-n", tmp_path / "job.sh"], check=True)
    directives = [line for line in example("bash").splitlines() if line.startswith("#SBATCH")]
    names = [re.fullmatch(r"#SBATCH --([a-z-]+)(=\S+)?", line) for line in directives]
    assert {name[1] for name in names if name} == SBATCH
    assert len(names) == len(SBATCH)


def test_kubernetes_would_take_the_job(tmp_path: Path) -> None:
    done = validated(tmp_path, example("yaml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "service/photos" in done.stdout + done.stderr
    assert "job/photos" in done.stdout + done.stderr
    # The check is one: a misspelt field, and a number where a text must be.
    for right, wrong in (("completionMode", "completionmode"), ('value: "1"', "value: 1")):
        assert validated(tmp_path, example("yaml").replace(right, wrong)).returncode != 0


@pytest.mark.parametrize("command", [torchrun_of_slurm(), torchrun_of_kubernetes()], ids=["slurm", "kubernetes"])
def test_torchrun_and_zoo_know_the_options(command: list[str]) -> None:
    import typer.main
    from torch.distributed.run import get_args_parser

    from zoo.cli.app import app

    words = [word if "$" not in word else re.sub(r"\$\{?\w+(:-0)?\}?", "2", word) for word in command]
    arguments: Any = get_args_parser().parse_args(words[words.index("torchrun") + 1 :])
    assert arguments.nnodes == "2"
    assert arguments.training_script == "zoo"
    assert arguments.module
    train: Any = typer.main.get_command(app).commands["train"]  # type: ignore[attr-defined]
    context = train.make_context("train", list(arguments.training_script_args[1:]))
    assert context.params["model"] == "resnet50"
    assert context.params["name"] == "photos"


@pytest.mark.slow
def test_the_slurm_script_trains_on_two_agents(tmp_path: Path) -> None:
    script = (
        example("bash")
        .replace("resnet50 --dataset /data/photos", TRAINING)
        .replace("/data/runs", str(tmp_path / "runs"))
    )
    script = script.replace("--nproc-per-node=4", "--nproc-per-node=1").replace(
        "OMP_NUM_THREADS=8", "OMP_NUM_THREADS=1"
    )
    tools = tmp_path / "bin"
    tools.mkdir()
    players = {
        "scontrol": 'echo "scontrol $*" >> "$SAID"; [ "$1" = show ] && echo 127.0.0.1; true',
        # Two machines, each with one agent.
        "srun": 'while [[ "$1" == --* ]]; do shift; done; "$@" & "$@" & wait %1 && wait %2',
        "torchrun": f'exec {sys.executable} -m torch.distributed.run "$@"',
    }
    for name, text in {**players, "job": script}.items():
        (tools / name).write_text(text if name == "job" else f"#!/bin/bash\n{text}\n")
        (tools / name).chmod(0o755)
    env = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "SAID": str(tmp_path / "said")}
    env |= {"SLURM_JOB_ID": "7", "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "a,b"}
    done = subprocess.run(
        ["bash", tools / "job"], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert '"processes": 2' in (tmp_path / "runs/photos/run.json").read_text()
    assert "requeue" not in (tmp_path / "said").read_text()
