"""The processes that train one run together: which of them this is, and what they have to tell each other.

A process learns of the others as torchrun tells it, from RANK, WORLD_SIZE and so on in its environment.
"""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from zoo.data.loader import Shard
from zoo.errors import EXIT_ERROR, Elsewhere, EnvironmentBroken, OptionInvalid, TrainingFailed, ZooError, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

PATIENCE = timedelta(hours=12)
"""How long processes wait while one downloads or looks at images; of one that dies they hear at once."""
LAUNCHED = "ZOO_LAUNCHED"
"""Set in the environment of processes that `zoo train --devices` started."""
OWN_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"
"""If 1, torchrun has a new store each time; needed where machines come and go, as each counts its own restarts."""
WANTED = ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True, kw_only=True)
class World:
    """One of `size` processes."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Among the processes of this machine."""
    local_size: int = 1
    group: Any = field(default=None, repr=False)
    """For what is said on the CPU, whatever the gradients take."""

    @property
    def alone(self) -> bool:
        """Whether there are no others."""
        return self.size == 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    @property
    def shard(self) -> Shard:
        """Which rows of every batch are ours."""
        return Shard(rank=self.rank, of=self.size)

    def device(self, name: str) -> str:
        """Return the device of this process: with others on its machine, each has a GPU of its own."""
        return f"cuda:{self.local_rank}" if name.startswith("cuda") and not self.alone else name

    def together(self, work: Callable[[], T]) -> T:
        """Do something in every process; where one of them fails, all do.

        Raises:
            ZooError: what went wrong, in the first process, whoever it happened to.
            Elsewhere: in the others.
        """
        value, error = _tried(work)
        self._share_error(error)
        return value  # type: ignore[return-value]

    def in_turn(self, work: Callable[[], T]) -> T:
        """Do something in every process, first in one of each machine: what that downloads, the others find."""
        value, error = _tried(work) if self.local_rank == 0 else (None, None)
        self._share_error(error)
        if self.local_rank:
            value, error = _tried(work)
        self._share_error(error)
        return value  # type: ignore[return-value]

    def by_first(self, work: Callable[[], T]) -> T:
        """Do something in the first process only, and return in all what came of it."""
        value, error = _tried(work) if self.first else (None, None)
        self._share_error(error)
        if self.alone:
            return value  # type: ignore[return-value]
        box = [value]
        dist.broadcast_object_list(box, 0, group=self.group)
        return box[0]  # type: ignore[return-value]

    def gathered(self, value: T) -> list[T]:
        """Return the values of all processes, in order of rank."""
        if self.alone:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value, group=self.group)
        return found

    def rows(self, array: np.ndarray) -> np.ndarray:
        """Return the rows [n, ...] of all processes, one after the other; they may have different n."""
        return array if self.alone else np.concatenate(self.gathered(array))

    def sum(self, numbers: torch.Tensor) -> torch.Tensor:
        """Add up, in place, what each process has on its device."""
        if not self.alone:
            dist.all_reduce(numbers)
        return numbers

    def seed_step(self, *place: int) -> None:
        """Begin a stream of random numbers of this process's own, that a resume can begin again at the same place."""
        if not self.alone:
            state = np.random.SeedSequence([*place, self.rank]).generate_state(1, np.uint64)
            torch.manual_seed(int(state[0] >> np.uint64(1)))

    def _share_error(self, error: Exception | None) -> None:
        found = self.gathered(None if error is None else _portable(error))
        rank = next((rank for rank, failed in enumerate(found) if failed), None)
        if rank is None:
            return
        if error is not None and (self.alone or (self.first and rank == 0)):
            raise error
        kind, text, where = found[rank] or (ZooError, "", "")
        raise kind(f"{text} (process {rank} of {self.size}, on {where})") if self.first else Elsewhere(kind.exit_code)


ALONE = World()


@contextlib.contextmanager
def joined() -> Iterator[World]:
    """Meet the other processes, if there are any, and leave them at the end.

    Raises:
        EnvironmentBroken: they were started without what they need to meet, or do not answer.
    """
    size = int(os.environ.get("WORLD_SIZE") or 1)
    if size == 1:
        yield ALONE
        return
    missing = [name for name in WANTED if name not in os.environ]
    if missing:
        raise EnvironmentBroken(
            f"WORLD_SIZE is {size}, but {', '.join(missing)} is not set; start the processes with torchrun or "
            "`zoo train --devices N`, or unset WORLD_SIZE"
        )
    try:
        group = _meet()
    except (RuntimeError, ValueError) as exc:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise EnvironmentBroken(f"the processes could not meet at {where}: {first_line(exc)}") from exc
    local_rank = int(os.environ["LOCAL_RANK"])
    if torch.cuda.is_available() and local_rank < torch.cuda.device_count():
        torch.cuda.set_device(local_rank)
    try:
        yield World(
            rank=dist.get_rank(),
            size=size,
            local_rank=local_rank,
            local_size=int(os.environ["LOCAL_WORLD_SIZE"]),
            group=group,
        )
    finally:
        # The others may be gone already.
        with contextlib.suppress(RuntimeError, ValueError):
            dist.destroy_process_group()


def _meet() -> Any:
    store, rank, size = next(rendezvous("env://"))
    if os.environ.get(OWN_STORE) != "1":
        # torchrun starts processes anew with the store of those before, where their addresses are.
        store = PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size)
    return dist.new_group(backend="gloo", timeout=PATIENCE)


@contextlib.contextmanager
def peers_watched(world: World, advice: str) -> Iterator[None]:
    """Turn what the library says when another process dies into one line that ends with `advice`."""
    try:
        yield
    except RuntimeError as exc:
        if world.alone or not _lost(exc):
            raise
        # Our own launcher knows which one, and why.
        if not world.first or LAUNCHED in os.environ:
            raise Elsewhere(EXIT_ERROR) from exc
        raise TrainingFailed(
            f"another of the {world.size} processes of this run was lost; what was saved is intact: {advice}"
        ) from exc


class Votes:
    """What each process wants at the end of a step, known to all of them one step later, so that all do the same."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._asked: tuple[int, ...] = ()
        self._sent: tuple[Any, torch.Tensor] | None = None

    def cast(self, *wishes: int) -> list[int]:
        """Take what this process wants now; return the largest of each wish of the step before.

        A single process gets its own wishes back. With several, the answer has had a step's time to come.
        """
        if self._world.alone:
            return list(wishes)
        # What was asked for is not asked for again before the answer.
        self._asked = tuple(0 if before else wish for wish, before in zip_longest(wishes, self._asked))
        before, self._sent = self._sent, self._send(self._asked)
        if before is None:
            return [0] * len(wishes)
        work, answer = before
        work.wait()
        found: list[int] = answer.tolist()
        return found

    def _send(self, wishes: tuple[int, ...]) -> tuple[Any, torch.Tensor]:
        numbers = torch.tensor(wishes, dtype=torch.int64)
        return dist.all_reduce(numbers, dist.ReduceOp.MAX, group=self._world.group, async_op=True), numbers


def share_of_batch(world: World, images: int, *, pairs: bool) -> int:
    """Return the largest batch of at most `images` that all processes share evenly, each with two images or more.

    Args:
        world: The processes.
        images: Images a step, of all processes together.
        pairs: Whether images are mixed in pairs, which must not be torn apart.

    Raises:
        OptionInvalid: too few for so many processes.
    """
    if world.alone:
        return images
    even = images // (part := world.size * (2 if pairs else 1)) * part
    if even < 2 * world.size:
        raise OptionInvalid(f"a batch of {images} images is too small for {world.size} processes; each needs two")
    return even


def _tried(work: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return work(), None
    except ZooError as exc:
        return None, exc


def _portable(error: Exception) -> tuple[type[ZooError], str, str]:
    kind = type(error)
    assert issubclass(kind, ZooError)
    return kind, str(error), socket.gethostname()


def _lost(exc: RuntimeError) -> bool:
    return isinstance(exc, dist.DistError) or "gloo" in str(exc) or "closed by peer" in str(exc)
