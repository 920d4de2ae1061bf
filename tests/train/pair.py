"""Runs in one of several processes: trains what it is told to, with the others, and prints what came of it.

Usage: python -m tests.train.pair RUNS ORDERS, with RANK, WORLD_SIZE and so on set; the last as JSON.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.training.learn.state import TrainState
    from zoo.training.machine.world import World

SECONDS = 240


def together(folder: Path, orders: list[dict[str, Any]], processes: int = 2) -> dict[str, Any]:
    """Carry out orders in several processes; return for each what every process says of it.

    An order has `name`, `options`, and perhaps `stop` (rank, epoch, step) or `resume`.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(processes):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
        env = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        env |= {name: str(value) for name, value in place.items()}
        command = [sys.executable, "-m", "tests.train.pair", str(folder), json.dumps(orders)]
        pipes: dict[str, Any] = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
        started.append(subprocess.Popen(command, env=env, text=True, **pipes))
    ended = [process.communicate(timeout=SECONDS) for process in started]
    assert [process.returncode for process in started] == [0] * processes, "\n".join(err[-1500:] for _, err in ended)
    found: dict[str, Any] = json.loads(ended[0][0].splitlines()[-1])
    return found


def main() -> None:
    from zoo.training.machine.world import joined

    orders = json.loads(sys.argv[2])
    with joined() as world:
        found = {}
        for order in orders:
            found[order["name"] + " again" * order.get("resume", False)] = world.gathered(carry_out(order, world))
    if world.first:
        print(json.dumps(found))


def carry_out(order: dict[str, Any], world: World) -> dict[str, Any]:
    import torch

    from zoo.catalogue import Catalogue
    from zoo.errors import Interrupted, ZooError
    from zoo.records.layers import resolve_options
    from zoo.records.run import Run
    from zoo.training.folds.work import start_folds
    from zoo.training.session import resume_run, start_run
    from zoo.training.watch import Watch

    class Looking(Watch):
        """Keeps the state, and stops where the order says."""

        state: TrainState | None = None

        def step(self, state: TrainState) -> None:
            self.state = state
            if order.get("stop") == [world.rank, state.epoch, state.step]:
                raise Interrupted

    torch.set_num_threads(1)
    catalogue, watch, path = Catalogue.read(), Looking(), Path(sys.argv[1]) / order["name"]
    try:
        if order.get("resume"):
            resume_run(catalogue, Run(path), lambda saved: saved, watch, world)
        else:
            resolved = world.together(lambda: resolve_options(catalogue, order["options"], None, None))
            start = start_folds if order["options"].get("folds") else start_run
            start(catalogue, resolved, path, watch, world)
    except ZooError as exc:
        return {"error": type(exc).__name__, "text": str(exc), "place": place_of(watch.state)}
    assert watch.state is not None
    if order["options"].get("fsdp"):
        weights: list[Any] = list(watch.state.model.parameters())
        return {
            "error": "",
            "own": sum(part.to_local().numel() for part in weights),
            "all": sum(map(torch.numel, weights)),
        }
    return {
        "error": "",
        "weights": [float(weight.detach().double().sum()) for weight in watch.state.model.parameters()],
    }


def place_of(state: TrainState | None) -> list[int]:
    return [state.epoch, state.step] if state else []


if __name__ == "__main__":
    main()
