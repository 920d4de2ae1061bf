"""The model as a training step calls it: itself, or one of several that share their gradients, or their weights."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from zoo.errors import OptionInvalid
from zoo.training.machine.compiled import compiled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torch.distributed.device_mesh import DeviceMesh

    from zoo.records.config import TrainConfig
    from zoo.training.machine.world import World

SMALLEST_UNIT = 100_000
"""Parameters of a part that is worth gathering by itself."""
LARGEST_SHARE = 0.25
"""Of all parameters, in one part, where its own parts can be gathered instead."""


class Replica:
    """A model in a process of its own."""

    def __init__(self, model: torch.nn.Module, *, compile_for: str = "") -> None:
        """Take the model, and the device to compile it for; empty leaves it as it is."""
        self.model = model
        self.compile_for = compile_for
        self.forward: Callable[[torch.Tensor], torch.Tensor] = self._compiled(model)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits float [n, C] of float32 [n, 3, H, W], with gradients."""
        return self.forward(images)

    def begin_epoch(self) -> None:
        """Take note of which parameters move in the epoch to come."""

    def step(self, *, last: bool) -> contextlib.AbstractContextManager[object]:
        """Return the context of a forward and backward pass; gradients are shared when it is the last of its group."""
        return contextlib.nullcontext()

    def agree(self, model: torch.nn.Module) -> None:
        """Give a model's buffers, such as the statistics of norms, the values that they have in the first process."""

    def state_of(self, model: torch.nn.Module) -> dict[str, Any]:
        """Return all weights of the model or its average, in processes that write; called in every process."""
        return model.state_dict()

    def load(self, model: torch.nn.Module, state: dict[str, Any]) -> None:
        """Take back what `state_of` gave."""
        model.load_state_dict(state)

    def state_of_optimizer(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Return all that it remembers, in processes that write; called in every process."""
        return optimizer.state_dict()

    def load_optimizer(self, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        """Take back what `state_of_optimizer` gave."""
        optimizer.load_state_dict(state)

    def _compiled(self, forward: Any) -> Callable[[torch.Tensor], torch.Tensor]:
        made: Callable[[torch.Tensor], torch.Tensor] = (
            compiled(forward, self.compile_for) if self.compile_for else forward
        )
        return made


class Shared(Replica):
    """One of several whole models whose gradients are averaged: DistributedDataParallel."""

    def __init__(self, model: torch.nn.Module, *, compile_for: str = "") -> None:
        super().__init__(model, compile_for=compile_for)
        self._moving: tuple[bool, ...] = ()
        _send_from_first(model.state_dict().values())

    def begin_epoch(self) -> None:
        """Wrap the model again if other parameters move: the wrapper shares those that moved when it was made."""
        moving = tuple(parameter.requires_grad for parameter in self.model.parameters())
        if moving != self._moving:
            self._moving = moving
            self._wrapper = torch.nn.parallel.DistributedDataParallel(self.model, gradient_as_bucket_view=True)
            self.forward = self._compiled(self._wrapper)

    def step(self, *, last: bool) -> contextlib.AbstractContextManager[object]:
        """Hold the gradients back until the last of a group."""
        return contextlib.nullcontext() if last else self._wrapper.no_sync()

    def agree(self, model: torch.nn.Module) -> None:
        """Send the first process's buffers to the others; a step of training does so as well."""
        _send_from_first(model.buffers())


class Sharded(Replica):
    """One of several parts of one model, whose weights, gradients and moments are divided: FSDP.

    Method: Zhao et al., "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel" (VLDB 2023, arXiv
    2304.11277), as torch's `fully_shard` has it.
    """

    def __init__(self, model: torch.nn.Module, average: torch.nn.Module | None, *, compile_for: str = "") -> None:
        """Divide the model, and its moving average; an optimizer must be made afterwards."""
        from torch.distributed.device_mesh import init_device_mesh

        # Left to itself, PyTorch would take the weights to a GPU, also of a run that is to stay on the processor.
        mesh = init_device_mesh(next(model.parameters()).device.type, (dist.get_world_size(),))
        for whole in (model, *([average] if average else [])):
            _divide(whole, mesh)
        super().__init__(model, compile_for=compile_for)

    def step(self, *, last: bool) -> contextlib.AbstractContextManager[object]:
        """Hold the gradients back until the last of a group."""
        model: Any = self.model
        model.set_requires_gradient_sync(last)
        return contextlib.nullcontext()

    def agree(self, model: torch.nn.Module) -> None:
        """Send the first process's buffers to the others: they are not divided."""
        _send_from_first(model.buffers())

    def state_of(self, model: torch.nn.Module) -> dict[str, Any]:
        """Gather the weights in the first process's memory, piece by piece."""
        from torch.distributed.checkpoint.state_dict import get_model_state_dict

        return get_model_state_dict(model, options=_whole(cpu=True))

    def load(self, model: torch.nn.Module, state: dict[str, Any]) -> None:
        """Keep this process's part of the weights."""
        from torch.distributed.checkpoint.state_dict import set_model_state_dict

        set_model_state_dict(model, state, options=_whole())

    def state_of_optimizer(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Gather the moments likewise; parameters go by their names."""
        from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

        # One that has not moved yet would be moved, to have moments that could be gathered.
        return get_optimizer_state_dict(self.model, optimizer, options=_whole(cpu=True)) if optimizer.state else {}

    def load_optimizer(self, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        """Keep this process's part of the moments."""
        from torch.distributed.checkpoint.state_dict import set_optimizer_state_dict

        if state:
            set_optimizer_state_dict(self.model, optimizer, state, options=_whole())


def make_replica(
    model: torch.nn.Module, average: torch.nn.Module | None, config: TrainConfig, world: World, device: str
) -> Replica:
    """Return what the options and the number of processes ask for.

    Args:
        model: On the device.
        average: Its moving average, if there is one.
        config: The options.
        world: The processes.
        device: Of this one.

    Raises:
        OptionInvalid: no compiler; weights divided among one process.
    """
    compile_for = device if config.compile else ""
    if config.fsdp:
        return Sharded(model, average, compile_for=compile_for)
    return Replica(model, compile_for=compile_for) if world.alone else Shared(model, compile_for=compile_for)


def check_replica(config: TrainConfig, world: World) -> None:
    """Raise OptionInvalid for what a number of processes cannot do, before anything is prepared."""
    for flag, on in (("--fsdp", config.fsdp), ("--sync-batchnorm", config.sync_batchnorm)):
        if on and world.alone:
            raise OptionInvalid(f"{flag} is for several processes; add --devices N, or start with torchrun")
    if world.alone:
        return
    if config.probe:
        raise OptionInvalid("--probe fits its classifier in one process; leave --devices and torchrun out")
    if config.fsdp and config.head == "probe":
        raise OptionInvalid("--fsdp divides the classifier that head = probe would fit; leave one of the two out")
    if config.fsdp and config.freeze:
        raise OptionInvalid("--fsdp divides parameters that move, and --freeze holds some; leave one of the two out")
    if config.fsdp and config.clip_grad and config.clip_mode == "agc":
        raise OptionInvalid("--fsdp divides each weight, and clip_mode = agc wants it whole; use clip_mode=norm")
    if ":" in config.device:
        raise OptionInvalid(f"--device {config.device} names one GPU for {world.size} processes; use --device cuda")


def with_shared_norms(model: torch.nn.Module, device: str) -> torch.nn.Module:
    """Return the model with batch norms whose statistics are of the batches of all processes.

    Raises:
        OptionInvalid: PyTorch has them for GPUs only.
    """
    from timm.layers import convert_sync_batchnorm

    if not device.startswith("cuda"):
        raise OptionInvalid(f"--sync-batchnorm needs GPUs, and this run is on {device}; leave it out")
    converted: torch.nn.Module = convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    return converted


def units(model: torch.nn.Module) -> list[torch.nn.Module]:
    """Return the parts of a model that are gathered one at a time: the blocks in its sequences, none too large."""
    most = LARGEST_SHARE * _parameters(model)

    def of(part: torch.nn.Module) -> Iterator[torch.nn.Module]:
        for child in part.children():
            block = isinstance(part, torch.nn.Sequential | torch.nn.ModuleList)
            container = isinstance(child, torch.nn.Sequential | torch.nn.ModuleList)
            below = list(of(child))
            if block and not container and _parameters(child) >= SMALLEST_UNIT:
                yield from below if below and _parameters(child) > most else [child]
            else:
                yield from below

    return list(of(model))


def _divide(model: torch.nn.Module, mesh: DeviceMesh) -> None:
    from torch.distributed.fsdp import fully_shard

    for part in (*units(model), model):
        fully_shard(part, mesh=mesh)


def _send_from_first(values: Iterable[torch.Tensor]) -> None:
    for value in values:
        dist.broadcast(value.detach(), 0)


def _parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _whole(*, cpu: bool = False) -> Any:
    from torch.distributed.checkpoint.state_dict import StateDictOptions

    return StateDictOptions(full_state_dict=True, cpu_offload=cpu)
