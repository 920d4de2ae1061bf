"""`zoo train --devices N`: the command once more in N processes, by PyTorch's own launcher, and what became of them."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import uuid
from typing import TYPE_CHECKING, Any

import typer

from zoo.errors import EXIT_ERROR, OptionInvalid, TrainingFailed

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.records.config import TrainConfig
    from zoo.training.start import Order


def train_on(devices: int, asked: Order) -> None:
    """Train in several processes on this machine; what is wrong with the options is told before they start.

    Raises:
        Exit: at their end.
    """
    from zoo.records.find import find_unfinished, refuse_taken
    from zoo.training.folds.work import saved_config
    from zoo.training.machine.world import World
    from zoo.training.session import check_names

    if asked.resume:
        run = find_unfinished(asked.name, asked.root)
        path, config = run.path, asked.change(saved_config(run))
    else:
        config = asked.checked().resolve().config
        path = asked.path(config)
        check_names(asked.catalogue, config, World(size=devices))
        refuse_taken(path)
    check_devices(devices, config)
    launch(devices, path, named=asked.name is not None)


def check_devices(devices: int, config: TrainConfig) -> None:
    """Raise OptionInvalid if this machine has fewer GPUs, or none and nobody asked for its processors."""
    import torch

    if config.device == "cpu":
        return
    there = torch.cuda.device_count()
    if there == 0:
        raise OptionInvalid(
            f"--devices {devices}: PyTorch sees no GPU here; leave it out, or train with that many processes of the "
            "processor: --device cpu"
        )
    if there < devices:
        raise OptionInvalid(f"--devices {devices}: PyTorch sees {there} here; use --devices {there}")


def launch(devices: int, path: Path, *, named: bool) -> None:
    """Run this very command in several processes on this machine, and exit as they do.

    Args:
        devices: How many.
        path: Of the run.
        named: Whether the command line says the run's name; else it is added, so that all find the same.

    Raises:
        TrainingFailed: one of them was killed.
        Exit: they were stopped, or one failed and said why.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from zoo.training.machine.world import LAUNCHED

    # The processes tell of themselves; the launcher's own lines are for its developers.
    logging.disable(logging.ERROR)
    os.environ[LAUNCHED] = "1"
    command = ["-P", "-m", "zoo", *sys.argv[1:], *([] if named else ["--name", path.name])]
    with tempfile.TemporaryDirectory() as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=devices,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            elastic_launch(config, sys.executable)(*command)
        except SignalException as exc:
            raise typer.Exit(128 + exc.sigval) from None
        except ChildFailedError as exc:
            _tell(exc.failures, devices, path)


def _tell(failures: dict[int, Any], devices: int, path: Path) -> None:
    codes = {rank: failure.exitcode for rank, failure in failures.items()}
    # The launcher itself ends with SIGTERM those that are left.
    killed = {rank: -code for rank, code in codes.items() if code < 0 and -code != signal.SIGTERM}
    if not killed:
        raise typer.Exit(max([EXIT_ERROR, *codes.values()]))
    rank, number = next(iter(killed.items()))
    why = "; was memory short?" if number == signal.SIGKILL else ""
    raise TrainingFailed(
        f"process {rank} of {devices} was ended by {signal.Signals(number).name}{why} "
        f"What was saved is intact: go on with `zoo train --resume --name {path.name} --devices {devices}`"
    )
