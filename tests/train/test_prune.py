"""Channels are cut soundly, what is left learns again, and the proof compares with the whole network."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any

import pytest
import timm
import torch

from zoo.errors import EnvironmentBroken, ExportUnsupported, OptionInvalid
from zoo.exporting.export import ExportSpec, export_run, prove_again
from zoo.training.prune import counts, cut

from ..conftest import train_digits

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.catalogue import Catalogue
    from zoo.records.artifact import Artifact
    from zoo.records.manifest import Manifest
    from zoo.records.run import Run

SHARE = 0.3
FAMILIES = ("test_resnet", "test_efficientnet", "test_vit", "test_convnext", "test_byobnet")


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_left_takes_the_same_images_and_names_the_same_classes(name: str) -> None:
    model: Any = timm.create_model(name, num_classes=5).eval().requires_grad_(False)
    size = tuple(model.pretrained_cfg["input_size"][1:])
    before = {key: value.clone() for key, value in model.state_dict().items()}
    thinner = cut(model, SHARE, size, name)
    macs, parameters = counts(thinner, size)
    whole_macs, whole_parameters = counts(model, size)
    assert parameters < 0.95 * whole_parameters
    assert macs < 0.95 * whole_macs
    with torch.no_grad():
        assert thinner(torch.zeros(3, 3, *size)).shape == (3, 5)
    assert all(value.equal(before[key]) for key, value in model.state_dict().items())
    parts: list[Any] = list(thinner.modules())
    for part in parts:
        if hasattr(part, "num_heads"):
            assert part.qkv.weight.shape[0] % (3 * part.num_heads) == 0


def test_the_smallest_channels_go_and_multiples_of_eight_stay() -> None:
    model: Any = torch.nn.Sequential(
        torch.nn.Conv2d(3, 48, 3),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(48, 4),
    )
    model.get_classifier = lambda: model[4]
    sizes = torch.randperm(48, generator=torch.Generator().manual_seed(0)).float() + 1
    with torch.no_grad():
        for layer, dims in ((model[0], (48, 1, 1, 1)), (model[4], (1, 48))):
            layer.weight.copy_(torch.ones_like(layer.weight) * sizes.view(dims))
    thinner: Any = cut(model, SHARE, (8, 8))
    left = thinner[0]
    # 70 % of 48 are 33.6, and 32 the nearest multiple.
    assert left.out_channels == 32
    assert set(left.weight[:, 0, 0, 0].tolist()) == set(range(17, 49))


def test_what_torch_pruning_cannot_follow_is_refused_in_one_line() -> None:
    mixer = timm.create_model("mixer_s32_224", num_classes=5, img_size=64).eval()
    with pytest.raises(ExportUnsupported, match=r"--prune .* mixer") as caught:
        cut(mixer, SHARE, (64, 64), "mixer_s32_224")
    assert "\n" not in str(caught.value)
    narrow = timm.create_model("test_resnet", num_classes=5).eval()
    with pytest.raises(ExportUnsupported, match="no channels to cut"):
        cut(narrow, 0.01, (32, 32), "test_resnet")


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "torch_pruning":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(EnvironmentBroken, match=r"edgezoo\[prune\]"):
        cut(torch.nn.Conv2d(3, 8, 3), SHARE, (8, 8))


@pytest.fixture(scope="module")
def small_run(catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run that exports of these tests are written into."""
    path = tmp_path_factory.mktemp("runs") / "small"
    return train_digits(catalogue, path, model="test_resnet", image_size=32, pretrained=False, lr=4e-3, augment="light")


@pytest.fixture(scope="module")
def pruned(catalogue: Catalogue, small_run: Run) -> tuple[Artifact, Manifest, list[str]]:
    """What became of it at fp32, and what was said meanwhile."""
    notes: list[str] = []
    spec = ExportSpec(format="onnx", precision="fp32", prune=SHARE, prune_epochs=2, max_drop=10, min_speedup=0)
    return (*export_run(catalogue, small_run, spec, notes.append), notes)


def test_an_export_is_pruned_and_proven_against_the_whole_network(
    catalogue: Catalogue, small_run: Run, pruned: tuple[Artifact, Manifest, list[str]]
) -> None:
    artifact, manifest, notes = pruned
    report, facts = manifest.report, manifest.pruning
    assert report.accepted, report.reasons
    assert artifact.path.name == "onnx-fp32-pruned"
    assert facts is not None
    assert (facts.share, facts.epochs) == (SHARE, 2)
    assert facts.parameters < 0.6 * facts.parameters_before
    assert facts.macs < 0.6 * facts.macs_before
    assert report.reference_top1 == pytest.approx(small_run.record().metrics["test"]["top1"])
    # Timed and weighed beside the whole network, and not held to its probabilities.
    assert report.fp32_size_bytes is not None
    assert report.size_bytes < 0.6 * report.fp32_size_bytes
    assert report.max_probability_difference > 5e-3
    assert sum("learning again, epoch" in note for note in notes) == 2
    again = prove_again(catalogue, small_run, artifact)
    assert (again.drop, again.flips, again.fp32_size_bytes) == (report.drop, report.flips, report.fp32_size_bytes)


def test_it_learns_again_and_leaves_the_run_as_it_was(catalogue: Catalogue, small_run: Run, pruned: Any) -> None:
    before = {file.name: file.read_bytes() for file in small_run.path.iterdir() if file.is_file()}
    spec = ExportSpec(format="onnx", precision="fp32", prune=SHARE, prune_epochs=0, max_drop=100, min_speedup=0)
    _, untaught = export_run(catalogue, small_run, spec)
    assert untaught.report.artifact_top1 < pruned[1].report.artifact_top1 - 0.1
    assert {file.name: file.read_bytes() for file in small_run.path.iterdir() if file.is_file()} == before


@pytest.mark.slow
def test_it_goes_with_int8(catalogue: Catalogue, small_run: Run) -> None:
    spec = ExportSpec(format="torchscript", precision="int8", prune=SHARE, prune_epochs=1, max_drop=100, min_speedup=0)
    artifact, manifest = export_run(catalogue, small_run, spec)
    assert artifact.path.name == "torchscript-int8-pruned"
    assert manifest.report.fp32_size_bytes is not None
    assert manifest.report.size_bytes < 0.3 * manifest.report.fp32_size_bytes


@pytest.mark.parametrize(("share", "epochs"), [(1.0, 2), (-0.1, 2), (0.3, -1)])
def test_a_share_that_is_none_is_refused(catalogue: Catalogue, small_run: Run, share: float, epochs: int) -> None:
    with pytest.raises(OptionInvalid, match="--prune"):
        export_run(catalogue, small_run, ExportSpec(format="onnx", prune=share, prune_epochs=epochs))


def test_the_command_tells_what_was_cut(cli: Any, small_run: Run, tmp_path: Path) -> None:
    options = ("--onnx", "--fp32", "--prune", SHARE, "--prune-epochs", 0, "--max-drop", 100, "--min-speedup", 0)
    answer = cli("export", small_run.path, *options)
    assert answer.code == 0, answer.stderr
    assert "pruned by 0.3: " in answer.stdout
