"""An artifact that resizes: every command gives it images as they are, and the proof says what the resize costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from zoo.contracts.preprocess import Preprocess
from zoo.data.decode import to_rgb
from zoo.data.loader import evaluation_batches
from zoo.errors import OptionInvalid
from zoo.exporting.bench import bench_artifacts
from zoo.exporting.evaluate import evaluate_subject
from zoo.exporting.export import ExportSpec, export_run
from zoo.exporting.limits import RESIZE_LIMIT, Budget, findings
from zoo.exporting.predict import predict_images
from zoo.exporting.reproof import verify_artifact
from zoo.plugin import Split
from zoo.records.answers import eager
from zoo.records.facts import resize_told
from zoo.records.manifest import Latency, ResizeCost
from zoo.records.trained import shipped_model

from .conftest import make_pictures, train_digits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zoo.catalogue import Catalogue
    from zoo.records.artifact import Artifact
    from zoo.records.manifest import Manifest
    from zoo.records.run import Run

    from .conftest import Answer

SIDE = 32


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of three classes in many sizes."""
    folder = make_pictures(tmp_path_factory.mktemp("photos"), each=60)
    for index, file in enumerate(sorted(folder.rglob("*.jpg"))):
        with Image.open(file) as image:
            image.resize((40 + 7 * (index % 13), 90 - 5 * (index % 11))).save(file, quality=90)
    return folder


@pytest.fixture(scope="module")
def run(catalogue: Catalogue, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("runs") / "photos"
    return train_digits(catalogue, path, dataset=str(photos), image_size=SIDE, epochs=3)


@pytest.fixture(scope="module")
def exported(catalogue: Catalogue, run: Run) -> tuple[Artifact, Manifest]:
    return export_run(catalogue, run, ExportSpec(format="onnx", precision="fp32", resize=True, unknown=0.2))


def test_it_is_accepted_and_says_what_it_takes(exported: tuple[Artifact, Manifest]) -> None:
    artifact, manifest = exported
    assert manifest.report.accepted, manifest.report.reasons
    assert artifact.path.name == "onnx-fp32-resize"
    assert manifest.resize_in_graph
    assert manifest.input.shape == (1, None, None, 3)
    assert manifest.output.shape == (1, 3)
    assert manifest.report.flips == 0
    assert manifest.report.unknown_flips == 0
    session = onnxruntime.InferenceSession(artifact.path / manifest.model_file)
    (taken,) = session.get_inputs()
    assert (taken.name, taken.type, taken.shape) == ("image", "tensor(uint8)", [1, "height", "width", 3])


def test_it_tells_what_the_resize_costs_at_the_median_size(exported: tuple[Artifact, Manifest], run: Run) -> None:
    artifact, manifest = exported
    cost = manifest.report.resize
    assert cost
    assert 40 <= cost.width <= 124
    assert 40 <= cost.height <= 90
    assert cost.file.p50 > 0
    assert cost.pillow.p50 > 0
    assert {"artifact", "fp32", "eager_fp32"} <= manifest.report.latency_ms.keys()
    assert resize_told(cost) in artifact.page.read_text()


def test_the_cost_is_told_as_far_as_it_can_be() -> None:
    latency = Latency(p50=2, p95=3)
    cost = ResizeCost(height=375, width=500, milliseconds=0.5, file=latency, prepared=latency, pillow=latency)
    assert resize_told(cost) == "0.50 ms at 500 x 375, the median image (2.00 in all; Pillow 2.00)"
    assert "lost in noise" in resize_told(cost.model_copy(update={"milliseconds": -0.1}))


def test_golden_vectors_are_of_another_size_and_come_out_again(
    exported: tuple[Artifact, Manifest], catalogue: Catalogue, run: Run
) -> None:
    artifact, manifest = exported
    golden = artifact.golden()
    assert golden.images.shape[1:] == (2 * SIDE, SIDE + SIDE // 2, 3)
    preprocess = Preprocess.from_json(manifest.preprocess)
    pixels = np.stack([preprocess.prepare(image) for image in golden.images])
    shipped, _ = shipped_model(catalogue, run)
    assert np.abs(eager(shipped)(pixels) - golden.reference).max() < 1e-6
    session = onnxruntime.InferenceSession(artifact.path / manifest.model_file)
    answers = [session.run(["probabilities"], {"image": image[None]})[0] for image in golden.images]
    assert np.abs(np.concatenate(answers) - golden.artifact).max() < 1e-6
    result = verify_artifact(catalogue, artifact, golden_only=False, note=lambda text: None)
    assert not result.problems
    assert result.golden_difference < 1e-6


def test_every_command_gives_it_images_as_they_are(
    exported: tuple[Artifact, Manifest], catalogue: Catalogue, run: Run, photos: Path
) -> None:
    artifact, _ = exported
    files = sorted(photos.rglob("*.jpg"))[::9]
    one, other = (predict_images(catalogue, subject, files, top=3) for subject in (artifact, run))
    for before, after in zip(other, one, strict=True):
        assert before.top[0][0] == after.top[0][0]
        assert after.top[0][1] == pytest.approx(before.top[0][1], abs=0.02)
        assert after.unknown is not None
    session = onnxruntime.InferenceSession(artifact.path / "model.onnx")
    (raw,) = session.run(["probabilities"], {"image": to_rgb(files[0])[None]})
    assert one[0].top[0][1] == pytest.approx(float(raw.max()), abs=1e-6)
    metrics, reference = (evaluate_subject(catalogue, subject, "test") for subject in (artifact, run))
    assert metrics.top1 == reference.top1
    assert metrics.loss == pytest.approx(reference.loss, abs=0.01)
    (result,) = bench_artifacts(catalogue, [artifact], threads=1, seconds=0.1)
    assert result.p50_ms > 0


def test_a_plain_file_of_the_run_stands_beside_it(
    exported: tuple[Artifact, Manifest], catalogue: Catalogue, run: Run
) -> None:
    artifact, _ = exported
    plain, manifest = export_run(catalogue, run, ExportSpec(format="onnx", precision="fp32"))
    assert plain.path != artifact.path
    assert artifact.path.is_dir()
    assert not manifest.resize_in_graph
    assert manifest.report.resize is None
    assert manifest.input.shape == (None, SIDE, SIDE, 3)


def test_whole_images_come_one_by_one_in_order(photos: Path) -> None:
    files = sorted(photos.rglob("*.jpg"))[:7]
    split = Split(images=files, labels=np.arange(7))
    for workers in (0, 2):
        batches = list(evaluation_batches(split, None, workers=workers))
        assert [labels.tolist() for _, labels in batches] == [[i] for i in range(7)]
        assert all(np.array_equal(image[0], to_rgb(file)) for (image, _), file in zip(batches, files, strict=True))


def test_pixels_that_differ_by_a_level_may_move_a_probability() -> None:
    report = {"drop": 0.0, "batches": {}, "max_probability_difference": RESIZE_LIMIT * 0.9}
    assert findings(report, Budget(), "fp32")
    cost = {"resize": {"milliseconds": 1.0}}
    assert not findings({**report, **cost}, Budget(), "fp32")
    assert findings({**report, **cost, "max_probability_difference": RESIZE_LIMIT * 1.1}, Budget(), "fp32")


def test_an_exporter_that_cannot_is_refused_before_anything_runs(catalogue: Catalogue, run: Run) -> None:
    notes: list[str] = []
    with pytest.raises(OptionInvalid, match=r"torchscript.* cannot resize in the graph; leave --resize-in-graph out"):
        export_run(catalogue, run, ExportSpec(format="torchscript", resize=True, calibrate=True), notes.append)
    assert not notes


def test_the_command_line_prints_the_cost(cli: Callable[..., Answer], run: Run) -> None:
    answer = cli("export", run.path, "--onnx", "--fp32", "--resize-in-graph")
    assert answer.code == 0, answer.stderr
    assert "resize in the graph" in answer.stdout
    assert "the median image" in " ".join(answer.stdout.split())
    refused = cli("export", run.path, "--torchscript", "--resize-in-graph")
    assert refused.code == 1
    assert "cannot resize in the graph" in refused.error
