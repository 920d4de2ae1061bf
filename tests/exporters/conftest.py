"""Requests as the core would make them: tiny backbones with sane statistics, pictures, calibration."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from zoo.plugin import ExportRequest, Preprocess, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zoo.plugin import Exporter

SIDE = 32
CLASSES = ("ant", "bee", "cat", "dog")
BACKBONES = pytest.mark.parametrize("backbone", ["resnet", "vit"], indirect=True)
PRECISIONS = pytest.mark.parametrize("precision", ["fp32", "int8"])


@pytest.fixture
def backbone(request: pytest.FixtureRequest) -> torch.nn.Module:
    """One of the backbones, by its fixture's name: see `BACKBONES`."""
    module: torch.nn.Module = request.getfixturevalue(request.param)
    return module


def pictures(count: int, *, seed: int = 0) -> np.ndarray:
    """Noisy pictures of large coloured blocks, uint8 [count, SIDE, SIDE, 3]."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (count, 4, 4, 3)).repeat(SIDE // 4, 1).repeat(SIDE // 4, 2)
    return (blocks + rng.normal(0, 10, blocks.shape)).clip(0, 255).astype(np.uint8)


def make_backbone(name: str, **options: Any) -> torch.nn.Module:
    """A timm model with random weights and the batch norm statistics of `pictures`."""
    import timm

    torch.manual_seed(0)
    backbone: torch.nn.Module = timm.create_model(name, num_classes=len(CLASSES), **options)
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            module.momentum = None
    with torch.no_grad():
        Preprocess(size=(SIDE, SIDE)).wrap(backbone).train()(torch.from_numpy(pictures(64)))
    return backbone.eval()


def make_request(backbone: torch.nn.Module, precision: str, **changes: Any) -> ExportRequest:
    """What the core hands to an exporter."""
    preprocess = Preprocess(size=(SIDE, SIDE))
    multi_label = changes.get("multi_label", False)

    def calibration() -> Iterator[np.ndarray]:
        yield from np.split(pictures(70), [32, 64])

    given: dict[str, Any] = {
        "model": preprocess.wrap(backbone, multi_label=multi_label).eval(),
        "backbone": backbone,
        "preprocess": preprocess,
        "classes": CLASSES,
        "precision": precision,
        "calibration": calibration,
        "target": Target(),
    }
    return ExportRequest(**{**given, **changes})


def eager(request: ExportRequest, images: np.ndarray) -> np.ndarray:
    """The reference that an artifact is held against."""
    with torch.inference_mode():
        return np.asarray(request.model(torch.from_numpy(images.copy())).numpy())


class BranchesOnPixels(torch.nn.Module):
    """A backbone whose Python code depends on the values that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(3, len(CLASSES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(x.mean((2, 3)))
        return logits if x.mean() > 0 else -3 * logits


@dataclass(frozen=True)
class Footprint:
    """Everything of a model that an export must leave as it was."""

    weights: dict[str, torch.Tensor]
    modes: list[tuple[str, bool, object, int]]

    @classmethod
    def of(cls, model: torch.nn.Module) -> Footprint:
        modes = [
            (name, module.training, getattr(module, "fused_attn", None), len(module._forward_pre_hooks))
            for name, module in model.named_modules()
        ]
        return cls(copy.deepcopy(dict(model.state_dict())), modes)

    def assert_same(self, other: Footprint) -> None:
        assert self.modes == other.modes
        assert self.weights.keys() == other.weights.keys()
        assert all(torch.equal(self.weights[name], other.weights[name]) for name in self.weights)


@pytest.fixture(scope="session")
def resnet() -> torch.nn.Module:
    return make_backbone("test_resnet")


@pytest.fixture(scope="session")
def vit() -> torch.nn.Module:
    return make_backbone("vit_tiny_patch16_224", img_size=SIDE, depth=2)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Exporter, ExportRequest], bytes]:
    """Export once for a session and hand out the bytes."""
    made: dict[tuple[type, int, str], bytes] = {}

    def export(exporter: Exporter, request: ExportRequest) -> bytes:
        key = (type(exporter), id(request.backbone), request.precision)
        if key not in made:
            out = tmp_path_factory.mktemp("export") / f"model{exporter.suffix}"
            exporter.export(request, out)
            made[key] = out.read_bytes()
        return made[key]

    return export
