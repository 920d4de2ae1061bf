"""A pytest plugin: toy things for the tests of plugins, each made once a session, in folders of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import torch

    from zoo.contracts.plugins import Dataset
    from zoo.records.artifact import Artifact
    from zoo.records.run import Run


@pytest.fixture(scope="session")
def zoo_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of PNG files, one sub-folder for each of four classes, 15 pictures each; not to be changed."""
    from PIL import Image

    from zoo.testing.toys import CLASSES, pictures

    folder = tmp_path_factory.mktemp("zoo-pictures")
    for number, (image, label) in enumerate(zip(*pictures(60), strict=True)):
        place = folder / CLASSES[label]
        place.mkdir(exist_ok=True)
        Image.fromarray(image).save(place / f"{number:03}.png")
    return folder


@pytest.fixture(scope="session")
def zoo_dataset() -> Dataset:
    """A dataset of 60 pictures in four classes, all in train."""
    from zoo.contracts.plugins import Dataset, Split
    from zoo.testing.toys import CLASSES, pictures

    images, labels = pictures(60)
    return Dataset(classes=CLASSES, splits={"train": Split(images=list(images), labels=labels)}, license="CC0-1.0")


@pytest.fixture(scope="session")
def zoo_backbone() -> torch.nn.Module:
    """A tiny network for four classes at 32 pixels, in eval mode; not to be changed."""
    from zoo.testing.toys import tiny_backbone

    return tiny_backbone()


@pytest.fixture(scope="session")
def zoo_run(zoo_pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A finished run of a small timm model on `zoo_pictures`; not to be changed."""
    from zoo.catalogue import Catalogue
    from zoo.records.layers import resolve
    from zoo.training.session import start_run

    options: dict[str, Any] = {
        "model": "test_resnet",
        "dataset": str(zoo_pictures),
        "pretrained": False,
        "augment": "none",
        "image_size": 32,
        "epochs": 4,
        "batch_size": 12,
        "lr": 3e-3,
        "ema_decay": 0.0,
        "warmup_epochs": 0.0,
        "workers": 0,
        "threads": 1,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_HOME", str(tmp_path_factory.mktemp("zoo-home")))
        path = tmp_path_factory.mktemp("zoo-runs") / "toy"
        yield start_run(Catalogue.read(), resolve([("kit", options)]), path)


@pytest.fixture(scope="session")
def zoo_artifact(zoo_run: Run) -> Artifact:
    """Its fp32 ONNX artifact, accepted; not to be changed."""
    from zoo.catalogue import Catalogue
    from zoo.exporting.export import ExportSpec, export_run

    artifact, _ = export_run(Catalogue.read(), zoo_run, ExportSpec(format="edgezoo/onnx", max_drop=100.0))
    return artifact
