"""What does batching gain in `zoo serve`, and what do hostile clients cost the others?

    python bench/serve.py [ARTIFACT] [--seconds 60] [--workers 1] [--threads N] [--only gain|proof] [--json]

Gain: requests that 32 clients get answered, with batches and without, by two servers in turn; by the clock and by the
server's processor time (where clients and server share a core, only the second is the server's own). It depends on the
model: what a batch saves is the fixed cost of a run and the reading of weights, so a transformer of large patches gains
much, a convolutional network little.

Proof: 64 clients, four of five requests good, at half of what the server can do; each knows its answers.
Then 10,000 bad requests and the memory that they left, then SIGTERM while all are asking.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.serving.client import Good, Lost, connect, goods, right
from bench.serving.hostile import hostile, slow
from bench.serving.server import ZOO, serving
from zoo.runtime.model import Model

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from bench.serving.client import Connection
    from bench.serving.server import Served

ROUNDS, ROUND_SECONDS, GAIN_CLIENTS = 7, 2.0, 32
CLIENTS, PICTURES_EACH, HOSTILE = 64, 3, 0.2
BAD_REQUESTS = 10_000


# ---- the proof -------------------------------------------------------------------------------------------------------


@dataclass
class Seen:
    """What the clients saw."""

    seconds: list[float] = field(default_factory=list)
    """Of good requests, from the first byte sent to the last received."""
    lost: list[str] = field(default_factory=list)
    mixed_up: int = 0
    refused: int = 0
    bad: int = 0
    wrong_status: list[str] = field(default_factory=list)
    slow: dict[str, float] = field(default_factory=dict)
    """Kind -> the longest that one stayed connected."""


class Bench:
    """One server, its clients, and what they saw."""

    def __init__(self, served: Served, artifact: Path) -> None:
        self.served, self.port = served, served.port
        self.classes = Model(artifact).classes
        self.goods = goods(artifact, CLIENTS * PICTURES_EACH)
        self.hostile, self.slow = hostile(), slow()

    async def closed_loop(self, clients: int, seconds: float) -> Seen:
        """Let clients ask for good pictures, each as soon as it has its answer."""
        seen, until = Seen(), time.perf_counter() + seconds

        async def one(number: int) -> None:
            connection = await connect(self.port)
            for turn in range(10**9):
                if time.perf_counter() > until:
                    break
                await self.good(connection, self.goods[(number + turn * clients) % len(self.goods)], seen)
            connection.transport.close()

        await asyncio.gather(*(one(number) for number in range(clients)))
        return seen

    async def good(self, connection: Connection, good: Good, seen: Seen) -> None:
        begin = time.perf_counter()
        status, body = await connection.ask(good.request)
        seen.seconds.append(time.perf_counter() - begin)
        if status == 503:
            seen.refused += 1
        elif status != 200:
            seen.wrong_status.append(f"good: {status} {body[:100]!r}")
        elif not right(good, body, self.classes):
            seen.mixed_up += 1

    async def bad(self, name: str, seen: Seen) -> None:
        request, allowed = self.hostile[name]
        connection = await connect(self.port)
        try:
            async with asyncio.timeout(30):
                status, body = await connection.ask(request)
            if status not in (*allowed, 503) or b'"error"' not in body:
                seen.wrong_status.append(f"{name}: {status} {body[:100]!r}")
        except (Lost, TimeoutError) as exc:
            seen.wrong_status.append(f"{name}: {type(exc).__name__} {exc}")
        seen.bad += 1
        connection.transport.close()

    async def loris(self, name: str, seen: Seen) -> None:
        at_once, dripped = self.slow[name]
        connection = await connect(self.port)
        begin = time.perf_counter()
        connection.transport.write(at_once)
        while not connection.ended.done() and time.perf_counter() - begin < 30:
            await asyncio.wait([connection.ended], timeout=0.5)
            if dripped and not connection.transport.is_closing():
                connection.transport.write(dripped)
        seen.slow[name] = max(seen.slow.get(name, 0), time.perf_counter() - begin)
        seen.bad += 1
        connection.transport.close()

    async def mixture(self, seconds: float, rate: float) -> Seen:
        """Let 64 clients ask at a total rate a second, a fifth of it hostile."""
        seen, until = Seen(), time.perf_counter() + seconds
        aside: set[asyncio.Task[None]] = set()

        async def one(number: int) -> None:
            rng = random.Random(number)
            connection = await connect(self.port)
            due = time.perf_counter() + rng.random() * CLIENTS / rate
            while due < until:
                await asyncio.sleep(max(0, due - time.perf_counter()))
                due += CLIENTS / rate * rng.uniform(0.5, 1.5)
                if rng.random() < HOSTILE:
                    # Aside: the client's own next request must not wait for it.
                    kind = rng.choice(list(self.hostile) + list(self.slow))
                    work: Coroutine[Any, Any, None] = (
                        self.loris(kind, seen) if kind in self.slow else self.bad(kind, seen)
                    )
                    task = asyncio.create_task(work)
                    aside.add(task)
                    task.add_done_callback(aside.discard)
                    continue
                try:
                    if not connection.open:  # idle for longer than the server keeps it
                        connection = await connect(self.port)
                    await self.good(connection, rng.choice(self.goods[number::CLIENTS]), seen)
                except (Lost, OSError) as exc:
                    seen.lost.append(f"{type(exc).__name__} {exc}")
                    connection = await connect(self.port)

        await asyncio.gather(*(one(number) for number in range(CLIENTS)))
        while aside:
            await asyncio.gather(*aside)
        return seen

    async def abuse(self, count: int) -> Seen:
        """Send bad requests, a dozen at a time."""
        seen, names = Seen(), [name for name in self.hostile if "huge" not in name or "announced" in name]
        left = iter(range(count))

        async def one() -> None:
            for number in left:
                await self.bad(names[number % len(names)], seen)

        await asyncio.gather(*(one() for _ in range(12)))
        return seen

    async def sigterm(self) -> Seen:
        """End the server while 64 clients ask; each goes on until it is no longer let in."""
        seen = Seen()

        async def one(number: int) -> None:
            connection: Connection | None = None
            for turn in range(10**9):
                if connection is None or not connection.open:
                    try:
                        async with asyncio.timeout(0.5):
                            connection = await connect(self.port)
                    except (OSError, TimeoutError):
                        return
                try:
                    await self.good(connection, self.goods[(number + turn * CLIENTS) % len(self.goods)], seen)
                except Lost as exc:
                    seen.lost.append(f"request {turn} of client {number}: {exc}")
                    connection = None

        clients = [asyncio.create_task(one(number)) for number in range(CLIENTS)]
        await asyncio.sleep(1)
        self.served.process.send_signal(signal.SIGTERM)
        await asyncio.gather(*clients)
        return seen


def prove(artifact: Path, seconds: float, *options: object) -> dict[str, float]:
    """Run the proof; print what came out, and return it."""
    run = _runner()
    with serving(artifact, *options) as served:
        bench = Bench(served, artifact)
        run(bench.closed_loop(CLIENTS, 1.0))
        unloaded = run(bench.closed_loop(1, min(5.0, seconds)))
        full = run(bench.closed_loop(CLIENTS, min(5.0, seconds)))
        capacity = len(full.seconds) / min(5.0, seconds)
        loaded = run(bench.mixture(seconds, capacity / 2))
        run(bench.abuse(1000))
        before = served.memory_mb()
        abused = run(bench.abuse(BAD_REQUESTS))
        after = served.memory_mb()
        ended = run(bench.sigterm())
        code = served.process.wait()
    calm, busy = (1e3 * float(np.percentile(seen.seconds, 99)) for seen in (unloaded, loaded))
    every = (unloaded, full, loaded, abused, ended)
    print(f"capacity {capacity:.0f} requests/s; then {CLIENTS} clients for {seconds:g} s at half of it")
    print(f"  good requests            {len(loaded.seconds)}, of which told to come again: {loaded.refused}")
    print(f"  bad requests             {loaded.bad}")
    print(f"  lost, mixed up           {len(loaded.lost)}, {sum(seen.mixed_up for seen in every)}")
    print(f"  p99 of the good ones     {busy:.1f} ms; unloaded {calm:.1f} ms: {busy / calm:.2f}x")
    print(f"  slow ones, longest       {max(loaded.slow.values(), default=0):.1f} s ({loaded.slow})")
    print(f"  memory                   {before:.1f} MB, after {abused.bad} bad requests {after:.1f} MB")
    print(f"  SIGTERM under load       {len(ended.seconds)} answered, {len(ended.lost)} lost, exit code {code}")
    wrong = [text for seen in every for text in seen.wrong_status]
    for text in [*wrong[:10], *loaded.lost[:5], *ended.lost[:5]]:
        print(f"  ! {text}")
    return {
        "p99_ratio": busy / calm,
        "good": len(loaded.seconds),
        "bad": loaded.bad,
        "lost": len(loaded.lost),
        "refused": loaded.refused,
        "mixed_up": sum(seen.mixed_up for seen in every),
        "wrong_answers": len(wrong),
        "slowest_loris_seconds": max(loaded.slow.values(), default=0.0),
        "memory_growth": after / before - 1,
        "answered_at_sigterm": len(ended.seconds),
        "lost_at_sigterm": len(ended.lost),
        "exit_code": code,
    }


# ---- the gain --------------------------------------------------------------------------------------------------------


def gain(artifact: Path, *options: object) -> dict[str, float]:
    """Compare batches of 16 with single images."""
    run = _runner()
    found: dict[int, list[tuple[float, float]]] = {16: [], 1: []}
    with serving(artifact, "--max-batch", 16, *options) as many, serving(artifact, "--max-batch", 1, *options) as one:
        benches = {16: Bench(many, artifact), 1: Bench(one, artifact)}
        for turn in range(-1, ROUNDS):
            for size, bench in benches.items():
                cpu, clock = bench.served.cpu_seconds(), time.perf_counter()
                answered = len(run(bench.closed_loop(GAIN_CLIENTS, ROUND_SECONDS)).seconds)
                clock, cpu = time.perf_counter() - clock, bench.served.cpu_seconds() - cpu
                if turn >= 0:
                    found[size].append((answered / clock, answered / cpu))
    print(f"{GAIN_CLIENTS} clients, median of {ROUNDS} interleaved rounds    batches of 16   single images    ratio")
    ratios = {}
    for index, (name, unit) in enumerate((("batching_gain", "requests/s"), ("batching_gain_cpu", "requests/CPU-s"))):
        of = {size: [pair[index] for pair in rounds] for size, rounds in found.items()}
        ratios[name] = statistics.median(a / b for a, b in zip(of[16], of[1], strict=True))
        with_, without = statistics.median(of[16]), statistics.median(of[1])
        print(f"  {unit:42} {with_:12.0f} {without:15.0f} {ratios[name]:7.2f}x")
    return ratios


def _runner() -> Callable[[Coroutine[Any, Any, Seen]], Seen]:
    import uvloop

    return lambda work: asyncio.Runner(loop_factory=uvloop.new_event_loop).run(work)


def small_artifact(folder: Path) -> Path:
    """Train and export a network of which batches make much: it reads large weights for few positions."""
    train = ["train", "vit_small_patch32_224", "--no-pretrained", "--dataset", "shapes", "--image-size", "64"]
    train += ["--dataset-option", "count=300", "--epochs", "3", "--name", "served", "--set", "lr=1e-3"]
    for command in (train, ["export", "served", "--onnx", "--fp32"]):
        subprocess.run([*ZOO, *command], cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return folder / "runs/served/export/onnx-fp32"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=Path, nargs="?", help="[default: a small one, trained now]")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the mixture")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--only", choices=("gain", "proof"))
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    options = ["--workers", given.workers, *(["--threads", given.threads] if given.threads is not None else [])]
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        artifact = given.artifact or small_artifact(Path(scratch))
        if given.only != "proof":
            ratios |= gain(artifact, *options)
        if given.only != "gain":
            ratios |= prove(artifact, given.seconds, *options)
    if given.json:
        print(json.dumps({name: round(value, 3) for name, value in ratios.items()}))


if __name__ == "__main__":
    main()
