"""No artifact without proof: what was printed can be had again, and what has changed is refused."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest
from safetensors.torch import load_file, save_file

from zoo.catalogue.made.dataset import open_dataset
from zoo.data.prepared import prepare
from zoo.errors import ArtifactInvalid, DatasetInvalid, PluginBroken
from zoo.exporting.export import ExportSpec, export_run
from zoo.exporting.golden import choose
from zoo.exporting.reproof import verify_artifact
from zoo.records.artifact import Artifact
from zoo.records.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zoo.catalogue import Catalogue

    from .conftest import Answer


@pytest.fixture
def copied_run(trained_run: Run, onnx_artifact: Artifact, tmp_path: Path) -> Run:
    """A run with one artifact that a test may spoil."""
    shutil.copytree(trained_run.path, tmp_path / "run")
    return Run(tmp_path / "run")


def artifact_of(run: Run) -> Artifact:
    return Artifact(run.export_folder / "onnx-fp32")


def blow_up(run: Run) -> None:
    """Make a few channels thousands of times as large as their neighbours, and the answers what they were."""
    weights = load_file(run.best_file)
    for name in ("weight", "bias"):
        weights[f"conv1.1.{name}"][::8] *= 3000
    weights["conv1.3.weight"][:, ::8] /= 3000
    save_file(weights, run.best_file)


@pytest.mark.slow
def test_a_collapse_in_int8_is_caught_named_and_healed(cli: Callable[..., Answer], copied_run: Run) -> None:
    blow_up(copied_run)
    command = ("export", copied_run.path, "--onnx", "--int8", "--min-speedup", "0")
    found = json.loads(cli(*command, "--json").stdout)
    assert found["report"]["accepted"], found["report"]["reasons"]
    assert any("conv1.3" in note and "stays in float" in note for note in found["made"]["notes"]), found["made"]
    refused = cli(*command, "--no-fallback")
    assert refused.code == 3
    assert "drop of top-1 in points" in refused.error
    assert (copied_run.export_folder / "onnx-int8.rejected" / "artifact.json").is_file()
    assert (copied_run.export_folder / "onnx-int8").is_dir()


def test_plain_onnxruntime_gives_the_accuracy_that_eval_prints(
    cli: Callable[..., Answer], catalogue: Catalogue, onnx_artifact: Artifact
) -> None:
    test = prepare(open_dataset(catalogue, "digits", {}), "digits", seed=0).splits["test"]
    manifest = json.loads((onnx_artifact.path / "artifact.json").read_text())
    session = onnxruntime.InferenceSession(onnx_artifact.path / "model.onnx", providers=["CPUExecutionProvider"])
    assert [(i.name, i.type, i.shape[1:]) for i in session.get_inputs()] == [("image", "tensor(uint8)", [32, 32, 3])]
    assert [(o.name, o.type) for o in session.get_outputs()] == [("probabilities", "tensor(float)")]

    from PIL import Image

    side = int(32 / manifest["preprocess"]["crop_fraction"])
    begin = round((side - 32) / 2)
    pixels = [
        np.asarray(Image.fromarray(np.asarray(i)).resize((side, side), Image.Resampling.BICUBIC)) for i in test.images
    ]
    images = np.stack([p[begin : begin + 32, begin : begin + 32] for p in pixels])
    accuracy = float((session.run(None, {"image": images})[0].argmax(1) == test.labels).mean())

    printed = json.loads(cli("eval", onnx_artifact.path, "--json").stdout)
    assert printed["top1"] == accuracy
    eager = json.loads(cli("eval", onnx_artifact.path.parent.parent, "--json").stdout)
    assert eager["images"] == len(test)


def test_the_manifest_has_the_keys_that_outsiders_read(onnx_artifact: Artifact) -> None:
    manifest = json.loads((onnx_artifact.path / "artifact.json").read_text())
    keys = "schema format precision target input output classes multi_label preprocess files lineage licenses report"
    assert set(keys.split()) <= set(manifest)
    keys = "accepted reasons split images reference_top1 artifact_top1 drop drop_interval flips"
    keys += " max_probability_difference per_class size_bytes latency_ms speedup machine"
    assert set(keys.split()) <= set(manifest["report"])
    assert manifest["input"] == {"name": "image", "dtype": "uint8", "shape": [None, 32, 32, 3]}
    assert manifest["output"] == {"name": "probabilities", "dtype": "float32", "shape": [None, 10]}
    assert set(manifest["report"]["latency_ms"]) == {"artifact", "fp32", "onnxruntime_fp32", "eager_fp32"}


def test_golden_vectors_are_images_of_every_class(onnx_artifact: Artifact) -> None:
    golden = onnx_artifact.golden()
    assert len(golden.images) >= 8
    assert golden.images.dtype == np.uint8
    assert set(golden.labels.tolist()) == set(range(10))
    assert np.allclose(golden.reference, golden.artifact, atol=1e-5)


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        (np.array([0, 0, 1, 0, 2, 1]), [0, 2, 4]),
        # Both labels at once, the second alone, none, the third: what was seen least decides.
        (np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0], [0, 1, 1]], np.uint8), [0, 2, 4]),
    ],
    ids=["one label", "several"],
)
def test_golden_images_are_the_first_of_each_class(labels: np.ndarray, wanted: list[int]) -> None:
    steady = np.zeros(len(labels))
    assert choose(labels, steady, 3).tolist() == wanted
    assert choose(labels, steady, 99).tolist() == list(range(len(labels)))


def test_golden_images_are_those_that_rounding_does_not_decide() -> None:
    labels, moved = np.array([0, 0, 1, 1, 2, 2]), np.array([0.2, 0, 0, 0.3, 0.1, 0.4])
    assert choose(labels, moved, 2).tolist() == [1, 2]
    assert choose(labels, moved, 3).tolist() == [1, 2, 4]


def test_verify_reproduces_every_number(catalogue: Catalogue, copied_run: Run) -> None:
    result = verify_artifact(catalogue, artifact_of(copied_run), golden_only=False, note=print)
    stored = artifact_of(copied_run).manifest().report
    assert result.problems == ()
    assert result.report is not None
    fresh, before = result.report.model_dump(), stored.model_dump()
    measured = {"latency_ms", "speedup", "min_speedup"}
    assert {k: v for k, v in fresh.items() if k not in measured} == {
        k: v for k, v in before.items() if k not in measured
    }


def test_verify_finds_each_number_that_was_written_by_hand(catalogue: Catalogue, copied_run: Run) -> None:
    wrong = {"artifact_top1": 0.5, "reference_top1": 0.5, "drop": 0.3, "flips": 7, "images": 100, "size_bytes": 5}
    file = artifact_of(copied_run).path / "artifact.json"
    manifest = json.loads(file.read_text())
    manifest["report"] |= wrong
    file.write_text(json.dumps(manifest))
    result = verify_artifact(catalogue, artifact_of(copied_run), golden_only=False, note=print)
    assert {problem.split()[0] for problem in result.problems} == set(wrong)


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz"])
def test_a_changed_file_is_refused_before_it_is_opened(catalogue: Catalogue, copied_run: Run, name: str) -> None:
    file = artifact_of(copied_run).path / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(ArtifactInvalid, match=f"{name} has changed"):
        artifact_of(copied_run).open(catalogue)


def test_a_missing_or_an_unknown_file_is_refused(catalogue: Catalogue, copied_run: Run) -> None:
    (artifact_of(copied_run).path / "extra.bin").touch()
    with pytest.raises(ArtifactInvalid, match=r"extra\.bin"):
        artifact_of(copied_run).open(catalogue)
    (artifact_of(copied_run).path / "extra.bin").unlink()
    (artifact_of(copied_run).path / "model.onnx").unlink()
    with pytest.raises(ArtifactInvalid, match="missing"):
        artifact_of(copied_run).open(catalogue)


def test_verify_exits_3_when_the_golden_answers_differ(
    cli: Callable[..., Answer], copied_run: Run, catalogue: Catalogue
) -> None:
    from zoo.records.artifact import checksums
    from zoo.records.golden import write_golden

    artifact = artifact_of(copied_run)
    golden = artifact.golden()
    write_golden(artifact.path, golden.model_copy(update={"artifact": golden.artifact[:, ::-1].copy()}))
    file = artifact.path / "artifact.json"
    manifest = json.loads(file.read_text())
    manifest["files"] = checksums(artifact.path)
    file.write_text(json.dumps(manifest))
    answer = cli("verify", artifact.path, "--golden")
    assert answer.code == 3
    assert "golden vectors differ" in answer.error


def test_a_refused_file_is_kept_aside_and_exits_3(cli: Callable[..., Answer], copied_run: Run) -> None:
    before = (artifact_of(copied_run).path / "artifact.json").read_bytes()
    refused = ("--precision", "int8-weights", "--min-speedup", 1000, "--no-fallback")
    answer = cli("export", copied_run.path, "--onnx", *refused, "--json")
    assert answer.code == 3
    assert "speed over fp32" in answer.error
    assert json.loads(answer.stdout)["report"]["accepted"] is False
    names = sorted(p.name for p in copied_run.export_folder.iterdir())
    assert names == ["onnx-fp32", "onnx-int8-weights.rejected"]
    assert (artifact_of(copied_run).path / "artifact.json").read_bytes() == before


@pytest.mark.slow
def test_what_is_slow_in_int8_ships_with_int8_weights(cli: Callable[..., Answer], copied_run: Run) -> None:
    answer = cli("export", copied_run.path, "--onnx", "--int8", "--min-speedup", 1000, "--json")
    assert answer.code == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert (found["precision"], found["report"]["accepted"]) == ("int8-weights", True)
    assert found["instead_of"]["precision"] == "int8"
    assert "speed over fp32" in found["instead_of"]["reasons"][0]
    assert found["report"]["fp32_size_bytes"] > 3.5 * found["report"]["size_bytes"]
    assert found["session"] == {"session.disable_quant_qdq": "1"}
    assert sorted(p.name for p in copied_run.export_folder.iterdir()) == [
        "onnx-fp32",
        "onnx-int8-weights",
        "onnx-int8.rejected",
    ]


SPOILS: dict[str, Any] = {"shape": lambda a: a[:, :-1], "float64": lambda a: a.astype(np.float64)}


class Spoiled:
    """The ONNX exporter, but the file it writes is damaged in one of several ways."""

    suffix = ".onnx"
    precisions = ("fp32",)
    how = ""

    def __init__(self) -> None:
        from zoo_exporters.onnx.exporter import OnnxExporter

        self._real = OnnxExporter()

    def export(self, request: Any, out: Path) -> None:
        self._real.export(request, out)
        if self.how == "raises":
            raise RuntimeError("out of ideas\nsecond line")
        model = onnx.load(out)
        to_array: Any = onnx.numpy_helper.to_array
        from_array: Any = onnx.numpy_helper.from_array
        for tensor in model.graph.initializer:
            array = to_array(tensor)
            if array.ndim == 4 and self.how in ("nan", "wrong"):
                worse = np.full_like(array, np.nan) if self.how == "nan" else -array
                tensor.CopyFrom(from_array(worse, tensor.name))
        onnx.save(model, out)

    def open(self, model_file: Path, *, threads: int = 0) -> Any:
        real = self._real.open(model_file, threads=threads)
        spoil: Any = SPOILS.get(self.how, lambda answers: answers)

        def predict(images: np.ndarray) -> Any:
            if self.how == "batch" and len(images) == 2:
                raise RuntimeError("this graph takes batches of one only")
            return spoil(real(images))

        return predict


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("nan", "not finite"),
        pytest.param("wrong", "drop of top-1", marks=pytest.mark.slow),
        ("shape", "expected float32"),
        ("float64", "expected float32"),
        ("batch", "batches of one only"),
    ],
)
def test_a_bad_file_never_gets_its_name(
    catalogue: Catalogue, copied_run: Run, monkeypatch: pytest.MonkeyPatch, how: str, reason: str
) -> None:
    monkeypatch.setattr(Spoiled, "how", how)
    real = type(catalogue).load
    monkeypatch.setattr(
        type(catalogue), "load", lambda self, plugin: Spoiled if plugin.kind == "exporter" else real(self, plugin)
    )
    shutil.rmtree(copied_run.export_folder)
    artifact, manifest = export_run(catalogue, copied_run, ExportSpec(format="onnx"))
    assert artifact.rejected
    assert any(reason in text for text in manifest.report.reasons), manifest.report.reasons
    assert [p.name for p in copied_run.export_folder.iterdir()] == ["onnx-fp32.rejected"]


def test_an_exporter_that_raises_leaves_nothing(
    catalogue: Catalogue, copied_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Spoiled, "how", "raises")
    real = type(catalogue).load
    monkeypatch.setattr(
        type(catalogue), "load", lambda self, plugin: Spoiled if plugin.kind == "exporter" else real(self, plugin)
    )
    shutil.rmtree(copied_run.export_folder)
    with pytest.raises(PluginBroken, match="out of ideas") as caught:
        export_run(catalogue, copied_run, ExportSpec(format="onnx"))
    assert "second line" not in str(caught.value)
    assert list(copied_run.export_folder.iterdir()) == []


def test_data_that_has_changed_is_refused(cli: Callable[..., Answer], catalogue: Catalogue, copied_run: Run) -> None:
    record = json.loads(copied_run.record_file.read_text())
    record["dataset_fingerprint"] = "0" * 64
    copied_run.record_file.write_text(json.dumps(record))
    with pytest.raises(DatasetInvalid, match="not what"):
        verify_artifact(catalogue, artifact_of(copied_run), golden_only=False, note=print)
    assert cli("eval", copied_run.path).code == 1
