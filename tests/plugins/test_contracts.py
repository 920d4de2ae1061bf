"""Our own plugins keep the promises of the suites that ship, found through the strangers' door."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from zoo.testing import AugmentationContract, BackboneContract, DatasetContract, ExporterContract

from ..exporters.conftest import make_backbone

if TYPE_CHECKING:
    from pathlib import Path

    import torch


class TestDigits(DatasetContract):
    name = "digits"


class TestFolder(DatasetContract):
    name = "folder"

    @pytest.fixture
    def options(self, zoo_pictures: Path) -> dict[str, Any]:
        return {"path": str(zoo_pictures)}

    @pytest.fixture
    def states_license(self) -> bool:
        return False


class TestNone(AugmentationContract):
    name = "none"

    @pytest.fixture
    def is_random(self) -> bool:
        return False


class TestLight(AugmentationContract):
    name = "light"


class TestStandard(AugmentationContract):
    name = "standard"


class TestHeavy(AugmentationContract):
    name = "heavy"


class TestRandaugment(AugmentationContract):
    name = "randaugment"


class TestPipelineFile(AugmentationContract):
    name = "file"

    @pytest.fixture
    def options(self, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
        import albumentations as A

        def write() -> str:
            file = tmp_path_factory.mktemp("pipeline") / "pipeline.yaml"
            A.save(A.Compose([A.HorizontalFlip(p=0.5), A.RandomBrightnessContrast(p=1.0)]), file, data_format="yaml")
            return str(file)

        return {"path": self.once("file", write)}


class TestTimm(BackboneContract):
    name = "timm/test_resnet"


class TestOnnx(ExporterContract):
    name = "onnx"


class TestTorchScript(ExporterContract):
    name = "torchscript"


class OfATransformer(ExporterContract):
    @pytest.fixture
    def backbone(self) -> torch.nn.Module:
        return self.once("vit", lambda: make_backbone("vit_tiny_patch16_224", img_size=32, depth=2))


@pytest.mark.slow
class TestOnnxOfATransformer(OfATransformer):
    name = "onnx"


@pytest.mark.slow
class TestTorchScriptOfATransformer(OfATransformer):
    name = "torchscript"
