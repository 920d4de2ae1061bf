"""Backbones that are built otherwise than most: shared weights, 3-d convolutions, bounds that are infinite."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from zoo.disk.weights import load_weights, save_weights
from zoo.training.checkpoint import _finite
from zoo.training.machine.choose import laid_out

if TYPE_CHECKING:
    from pathlib import Path


def test_weights_that_layers_share_are_written_with_each(tmp_path: Path) -> None:
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    whole = model.state_dict() | {"half": shared.weight[:2]}
    save_weights(tmp_path / "weights.safetensors", whole)
    found = load_weights(tmp_path / "weights.safetensors")
    assert found.keys() == whole.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in whole.items())


def test_only_what_has_rank_4_is_laid_out() -> None:
    flat, deep = nn.Conv2d(3, 4, 3), nn.Conv3d(1, 2, (1, 3, 3))
    model = nn.ModuleList([flat, deep, nn.Linear(4, 2)])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert laid_out(model, "nhwc") is model
    assert flat.weight.is_contiguous(memory_format=torch.channels_last)
    assert not flat.weight.is_contiguous()
    assert deep.weight.is_contiguous()
    laid_out(model, "nchw")
    assert flat.weight.is_contiguous()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_bound_may_be_infinite_and_weights_may_not() -> None:
    bound, weights = torch.tensor(float("inf")), torch.ones(3)
    assert _finite({"bound": bound, "weights": weights})
    assert not _finite({"weights": weights * bound})
    assert not _finite({"weights": weights / weights.sub(1)})
    assert not _finite({"bound": bound - bound})
