"""What a GPU is asked, and in which order, seen without one: calls are recorded, devices are made up."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.distributed.fsdp
from torch.distributed import device_mesh

from zoo.contracts.preprocess import Preprocess
from zoo.errors import fills_card, lacks_memory
from zoo.training import job as jobs
from zoo.training.learn.loop import figures_of
from zoo.training.learn.plan import Plan
from zoo.training.machine.batch_size import largest_batch
from zoo.training.machine.choose import usual_precision
from zoo.training.machine.replica import Sharded
from zoo.training.machine.timing import fastest_mode
from zoo.training.machine.transfer import Transfer, allocator
from zoo.training.machine.trial import Mode, Trial, undisturbed
from zoo.training.watch import Watch

from .rig import Rig, batch, make_rig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from zoo.catalogue import Catalogue

PLAIN = Mode(precision="fp32", layout="nchw")
SAID = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    torch.AcceleratorError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
]


def refuses_above(most: int, why: Exception, broken: list[str]) -> Callable[..., float]:
    """Return a step that a card of so much room takes or refuses."""

    def step(self: Trial, model: torch.nn.Module, pixels: torch.Tensor, mode: Mode) -> float:
        if len(pixels) > most or mode.precision in broken:
            raise why
        return 1.0

    return step


def on_card(monkeypatch: pytest.MonkeyPatch, step: Callable[..., float]) -> Trial:
    """Return a trial that takes itself to be on a GPU."""
    monkeypatch.setattr(Trial, "copied", lambda self, layout: self.model)
    monkeypatch.setattr(Trial, "pixels", lambda self, images: torch.zeros(images, 1))
    monkeypatch.setattr(Trial, "step", step)
    return Trial(model=torch.nn.Linear(2, 2), preprocess=Preprocess(size=(8, 8)), device="cuda")


@pytest.mark.parametrize("why", SAID, ids=lambda why: type(why).__name__)
def test_whoever_finds_the_card_full_fewer_images_are_tried(monkeypatch: pytest.MonkeyPatch, why: Exception) -> None:
    assert fills_card(why)
    assert lacks_memory(why)
    # Of 110 that fit, a tenth is left to what falls into pieces.
    assert largest_batch(on_card(monkeypatch, refuses_above(110, why, [])), PLAIN) == 96
    short = Mode(precision="bf16", layout="nchw")
    trial = on_card(monkeypatch, refuses_above(110, why, ["fp32"]))
    found = fastest_mode(trial, (PLAIN, short), 8, rounds=2)
    assert found is not None
    assert found.mode == short


def test_any_other_error_of_a_card_is_none_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    why = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    assert not fills_card(why)
    trial = on_card(monkeypatch, refuses_above(4, why, []))
    with pytest.raises(torch.AcceleratorError):
        largest_batch(trial, PLAIN)
    with pytest.raises(torch.AcceleratorError):
        fastest_mode(trial, (PLAIN,), 8, rounds=2)


@pytest.mark.parametrize("why", SAID, ids=lambda why: type(why).__name__)
def test_a_run_goes_on_with_less_whoever_finds_the_card_full(monkeypatch: pytest.MonkeyPatch, why: Exception) -> None:
    tries = iter([why, None])

    def epochs(job: Any) -> Iterator[Any]:
        if error := next(tries):
            raise error
        yield

    taken: list[Any] = []
    monkeypatch.setattr(jobs, "_epochs", epochs)
    monkeypatch.setattr(jobs, "_take_less_memory", taken.append)
    monkeypatch.setattr(jobs, "_blend", lambda job: None)
    job: Any = SimpleNamespace(plan=SimpleNamespace(world=SimpleNamespace(alone=True)))
    assert len(list(jobs._train(job))) == 1
    assert taken == [job]


def test_no_process_leaves_before_the_first_has_finished(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said: list[str] = []
    monkeypatch.setattr(jobs, "_train", lambda job: iter(()))
    world = SimpleNamespace(first=False, alone=False, by_first=lambda work: said.append("waited"))
    config = SimpleNamespace(trackers=(), tracker_options={}, model_dump=lambda mode: {})
    job: Any = SimpleNamespace(
        catalogue=None,
        resolved=SimpleNamespace(config=config),
        plan=SimpleNamespace(world=world),
        run=SimpleNamespace(path=tmp_path),
        watch=Watch(),
    )
    jobs.train_and_finish(job)
    assert said == ["waited"]


def test_the_figures_of_a_step_wait_for_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "tensor", lambda *_, **__: pytest.fail("copied to the device"))
    loss, right = torch.full((), 0.5), torch.arange(4) < 3
    assert figures_of(loss, right).tolist() == [2.0, 3.0, 4.0]


def test_bf16_is_asked_of_the_gpu_that_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    current: list[str] = ["cuda:0"]

    @contextlib.contextmanager
    def device(name: str) -> Iterator[None]:
        current.append(name)
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *, including_emulation: current[-1] == "cuda:1")
    assert usual_precision("cuda:1") == "bf16"
    assert usual_precision("cuda:0") == "fp32"
    assert current == ["cuda:0"]


def with_gpus(monkeypatch: pytest.MonkeyPatch, states: list[int]) -> list[int]:
    """Let there be GPUs whose random state is a number; what is set stands in the list that is returned."""
    there = list(states)

    def put(found: list[torch.Tensor]) -> None:
        for index, state in enumerate(found):
            there[index] = int(state)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(there))
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: [torch.tensor(state) for state in there])
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", put)
    return there


@pytest.mark.parametrize(("here", "after"), [(2, [7, 8]), (1, [7]), (3, [7, 8, 0])])
def test_random_states_of_all_gpus_go_to_as_many_as_there_are(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, here: int, after: list[int]
) -> None:
    rig = make_rig(catalogue)
    with monkeypatch.context() as patch:
        with_gpus(patch, [7, 8])
        payload = rig.state.to_payload()
    assert [int(state) for state in payload["cuda_rng"]] == [7, 8]
    found = with_gpus(monkeypatch, [0] * here)
    rig.state.load(payload)
    assert found == after


def test_what_a_search_took_is_not_what_training_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Any] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: said.append("empty"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", said.append)

    @contextlib.contextmanager
    def forked(devices: range) -> Iterator[None]:
        said.append(devices)
        yield

    monkeypatch.setattr(torch.random, "fork_rng", forked)
    with undisturbed():
        said.append("tried")
    assert said == [range(2), "tried", "empty", 0, 1]


def test_weights_are_divided_on_the_device_that_they_are_on(monkeypatch: pytest.MonkeyPatch) -> None:
    meshes: list[Any] = []
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(device_mesh, "init_device_mesh", lambda kind, shape: (kind, shape))
    monkeypatch.setattr(torch.distributed.fsdp, "fully_shard", lambda part, *, mesh: meshes.append(mesh))
    Sharded(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    assert meshes == [("cpu", (2,))] * 2
    meshes.clear()
    with torch.device("meta"):
        Sharded(torch.nn.Linear(2, 2), None)
    assert meshes == [("meta", (2,))]


class Scaler(torch.amp.GradScaler):
    """One for the processor, which notes what it is asked."""

    def __init__(self, said: list[str]) -> None:
        super().__init__("cpu", init_scale=2.0**10)
        self.said = said

    def scale(self, outputs: Any) -> Any:
        self.said.append("scale")
        return super().scale(outputs)

    def unscale_(self, optimizer: torch.optim.Optimizer) -> None:
        self.said.append("unscale")
        super().unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> float | None:
        self.said.append("step")
        return super().step(optimizer, *args, **kwargs)

    def update(self, new_scale: float | torch.Tensor | None = None) -> None:
        self.said.append("update")
        super().update(new_scale)


def trained(catalogue: Catalogue, said: list[str] | None, monkeypatch: pytest.MonkeyPatch, **given: Any) -> Rig:
    rig = make_rig(catalogue, steps=4, accumulate=2, warmup_epochs=0, **given)
    if said is not None:
        rig.state.scaler = Scaler(said)
        real = Plan.clip

        def clip(self: Plan, model: torch.nn.Module) -> None:
            said.append("clip")
            real(self, model)

        monkeypatch.setattr(Plan, "clip", clip)
    rig.train(*(batch(seed=seed) for seed in range(4)))
    return rig


@pytest.mark.parametrize("clip", [0.0, 1e-3])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_gradients_are_unscaled_before_they_are_clipped_and_once_a_group(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, clip: float, optimizer: str
) -> None:
    said: list[str] = []
    given: dict[str, Any] = {"clip_grad": clip, "optimizer": optimizer}
    plain = trained(catalogue, None, monkeypatch, **given).copy_of_weights()
    scaled = trained(catalogue, said, monkeypatch, **given)
    clipped = ["unscale", "clip", "step"] if clip else ["step"]
    # SGD is not fused, so that the scaler itself unscales where nobody has.
    clipped += ["unscale"] if optimizer == "sgd" and not clip else []
    assert said == ["scale", "scale", *clipped, "update"] * 2
    # A power of two changes no digit.
    assert scaled.moved(plain) == set()


@pytest.mark.parametrize("clip", [0.0, 1.0])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_gradient_that_overflows_moves_nothing(catalogue: Catalogue, clip: float, optimizer: str) -> None:
    rig = make_rig(catalogue, steps=1, clip_grad=clip, optimizer=optimizer, warmup_epochs=0)
    rig.state.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    some: Any = next(rig.model.parameters())
    some.register_hook(lambda gradient: gradient * float("inf"))
    before = {name: value.clone() for name, value in rig.model.named_parameters()}
    rig.train(batch())
    assert all(torch.equal(value, before[name]) for name, value in rig.model.named_parameters())
    assert rig.state.scaler.get_scale() == 2.0**9


class Event:
    """Stands for one on a stream."""

    def __init__(self, said: list[str]) -> None:
        self.said, self.name = said, f"copy {sum(line.endswith('recorded') for line in said)}"

    def record(self, stream: object) -> None:
        assert stream == "current"
        self.said.append(f"{self.name} recorded")

    def synchronize(self) -> None:
        self.said.append(f"{self.name} awaited")


def test_memory_stays_taken_until_its_copy_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    copied: list[dict[str, Any]] = []
    fake: Any = SimpleNamespace(Event=lambda: Event(said), current_stream=lambda device: "current")
    monkeypatch.setattr(torch, "cuda", fake)

    def to(device: torch.device, **how: Any) -> None:
        copied.append({"device": str(device), **how})

    monkeypatch.setattr(torch, "from_numpy", lambda array: SimpleNamespace(to=to))
    transfer = Transfer(torch.device("cuda:1"))
    arrays = [np.zeros(3, np.uint8) for _ in range(4)]
    for array in arrays:
        transfer(array)
    assert copied == [{"device": "cuda:1", "non_blocking": True}] * 4
    assert said == [
        *("copy 0 recorded", "copy 1 recorded", "copy 2 recorded", "copy 0 awaited"),
        *("copy 3 recorded", "copy 1 awaited"),
    ]
    assert [kept is array for (_, kept), array in zip(transfer._in_flight, arrays[2:], strict=True)] == [True, True]


def test_only_batches_for_a_gpu_are_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    plain = torch.empty((2, 3), dtype=torch.uint8)

    def empty(shape: tuple[int, ...], **how: Any) -> torch.Tensor:
        asked.append({"shape": shape, **how})
        return plain

    monkeypatch.setattr(torch, "empty", empty)
    assert allocator(torch.device("cpu")) is None
    pinned = allocator(torch.device("cuda:1"))
    assert pinned is not None
    assert np.shares_memory(pinned((2, 3)), plain.numpy())
    assert asked == [{"shape": (2, 3), "dtype": torch.uint8, "pin_memory": True}]
