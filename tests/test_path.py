"""The tour: from a dataset to a proven file, its answers and a bundle, one step a line. Start reading here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
from PIL import Image

from zoo.catalogue.made.dataset import open_dataset
from zoo.data.prepared import prepare
from zoo.exporting.evaluate import evaluate_subject
from zoo.exporting.export import ExportSpec, export_run
from zoo.exporting.predict import predict_images
from zoo.exporting.reproof import verify_artifact
from zoo.records.artifact import Artifact
from zoo.records.layers import resolve_options
from zoo.runtime.golden import replay as selftest
from zoo.runtime.model import Model
from zoo.training.session import start_run

from .bundles import unpacked_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.catalogue import Catalogue


def test_from_dataset_to_proven_artifact(catalogue: Catalogue, tmp_path: Path) -> None:
    # A name becomes a plugin's description of the data, and that becomes three clean splits.
    data = prepare(open_dataset(catalogue, "digits", {}), "digits", seed=0)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 1461, "val": 163, "test": 173}

    # Options come in layers: defaults, the model's recipe, the command line. Each value knows its origin.
    options = resolve_options(catalogue, {"model": "tiny", "dataset": "digits", "epochs": 4}, None, None)
    assert options.origins["epochs"] == "command line"
    assert options.origins["augment"] == "recipe tiny"

    # Training turns them into a run directory, complete once run.json is there.
    run = start_run(catalogue, options, tmp_path / "runs" / "tour")
    assert run.record().classes == tuple("0123456789")
    assert len(run.metrics_file.read_text().splitlines()) == 4

    # Exporting gives a file only together with its proof: the test images, which chose nothing, in its own runtime.
    artifact, manifest = export_run(catalogue, run, ExportSpec(format="onnx", precision="int8"))
    assert manifest.report.accepted, manifest.report.reasons
    assert (manifest.report.split, manifest.report.images) == ("test", 173)
    assert manifest.report.verdict in ("proven", "accepted, not proven")
    assert artifact.path == run.export_folder / "onnx-int8"

    # The proof can be repeated from the disk, to the same numbers.
    assert verify_artifact(catalogue, Artifact(artifact.path), golden_only=False, note=print).problems == ()

    # The file needs nothing of ours: raw pixels in, probabilities out.
    session = onnxruntime.InferenceSession(artifact.path / "model.onnx", providers=["CPUExecutionProvider"])
    golden = artifact.golden()
    assert np.allclose(session.run(["probabilities"], {"image": golden.images})[0], golden.artifact, atol=1e-5)

    # And a picture gets its answer.
    test = data.splits["test"]
    Image.fromarray(np.asarray(test.images[0])).save(tmp_path / "digit.png")
    (answer,) = predict_images(catalogue, artifact, [tmp_path / "digit.png"], top=3)
    assert len(answer.top) == 3
    shown = evaluate_subject(catalogue, artifact, "test")
    assert (shown.images, len(test)) == (173, 173)
    assert shown.top1 is not None
    assert shown.top1 > 0.8

    # A bundle holds all that a device needs, and its runtime, which knows neither zoo nor torch, answers the same.
    device = Model(unpacked_bundle(artifact, tmp_path))
    assert device.predict(tmp_path / "digit.png", top=3) == [answer]
    assert selftest(device).ok
