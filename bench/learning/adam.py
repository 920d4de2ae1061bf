"""The loop that one writes by hand: plain Adam at a constant rate, no augmentation, the best epoch by val."""

from __future__ import annotations

import math
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import timm
import torch
from timm.data import create_dataset, create_transform, resolve_data_config
from torch.nn.functional import cross_entropy

from bench.learning.clock import cpu_seconds
from bench.learning.result import Outcome

if TYPE_CHECKING:
    from bench.learning.result import Job

BATCH = 32
RATE_FROM_SCRATCH, RATE_PRETRAINED = 1e-3, 1e-4
Labelled = tuple[torch.Tensor, torch.Tensor]
"""Float [N, 3, H, W], normalised, and int64 [N]."""


def train_adam(job: Job) -> Outcome:
    """Train until the budget is used up, to the end of that epoch."""
    begin = cpu_seconds()
    torch.manual_seed(job.seed)
    model = make_network(job)
    train, val = read_images(job, model, "train"), read_images(job, model, "val")
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE_PRETRAINED if job.weights else RATE_FROM_SCRATCH)
    best, weights, epochs = (-1.0, 0.0), model.state_dict(), 0
    while cpu_seconds() - begin < job.budget:
        train_epoch(model, train, optimizer)
        epochs += 1
        score = evaluate(model, val)
        if score > best:
            best, weights = score, deepcopy(model.state_dict())
    seconds = cpu_seconds() - begin
    model.load_state_dict(weights)
    top1, _ = evaluate(model, read_images(job, model, "test"))
    return Outcome(top1=100 * top1, seconds=seconds, epochs=epochs)


def train_epoch(model: torch.nn.Module, train: Labelled, optimizer: torch.optim.Optimizer) -> None:
    images, labels = train
    model.train()
    # Even batches: the statistics that batch norms draw from a remainder of a few images spoil the running ones.
    for batch in torch.chunk(torch.randperm(len(labels)), math.ceil(len(labels) / BATCH)):
        optimizer.zero_grad()
        cross_entropy(model(images[batch]), labels[batch]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


@torch.inference_mode()
def evaluate(model: torch.nn.Module, split: Labelled) -> tuple[float, float]:
    """Return top-1 as a share, and the loss with its sign turned, which decides between epochs of the same top-1."""
    images, labels = split
    model.eval()
    logits = torch.cat([model(batch) for batch in torch.split(images, BATCH)])
    return float((logits.argmax(1) == labels).double().mean()), -float(cross_entropy(logits, labels))


def make_network(job: Job) -> torch.nn.Module:
    """Return timm's network with as many classes as the images have, with random weights or the given ones."""
    # A number of classes that differs from the file's makes timm leave out its head; train.py does the same.
    given: dict[str, Any] = {"pretrained": True, "pretrained_cfg_overlay": {"file": job.weights, "num_classes": -1}}
    classes = sum(1 for _ in Path(job.folder, "train").iterdir())
    model: torch.nn.Module = timm.create_model(job.of.network, num_classes=classes, **(given if job.weights else {}))
    return model


def read_images(job: Job, model: torch.nn.Module, split: str) -> Labelled:
    """Read images as timm evaluates: resized, the middle cut out, normalised as the network's weights want it."""
    config = resolve_data_config({"img_size": job.size or None}, model=model)  # type: ignore[no-untyped-call]
    dataset = create_dataset("", root=job.folder, split=split)
    dataset.transform = create_transform(**config, is_training=False)
    pairs = [dataset[index] for index in range(len(dataset))]
    return torch.stack([image for image, _ in pairs]), torch.tensor([label for _, label in pairs])
