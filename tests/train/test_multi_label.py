"""Several labels an image, end to end: it learns, thresholds are tuned, the proof and every command know of it."""

from __future__ import annotations

import html.parser
import inspect
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score
from timm.loss import BinaryCrossEntropy

from zoo.evaluation.labels import thresholds_of
from zoo.evaluation.metrics import label_metrics
from zoo.exporting.export import ExportSpec, export_run
from zoo.exporting.predict import predict_images
from zoo.exporting.reproof import verify_artifact
from zoo.records.answers import eager, probabilities
from zoo.records.layers import resolve_options
from zoo.records.trained import load_trained
from zoo.training.learn.task import make_task
from zoo.training.session import start_run
from zoo.training.watch import Watch

from .drawn import MARKS, OPTIONS, draw, draw_dataset, mixes_labels

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from zoo.catalogue import Catalogue
    from zoo.records.artifact import Artifact
    from zoo.records.run import Run

    from ..conftest import Answer

SMALL = ["--no-pretrained", "--image-size", 32, "--batch-size", 24, "--augment", "light", "--lr", 1e-2]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_dataset(tmp_path_factory.mktemp("marks"))


def train(catalogue: Catalogue, table: Path, path: Path, watch: Watch | None = None, **given: Any) -> Run:
    settings: dict[str, Any] = {
        "model": "test_resnet",
        "dataset": "csv",
        "dataset_options": {"file": str(table), **OPTIONS},
    }
    settings |= {"image_size": 32, "pretrained": False, "augment": "light", "batch_size": 24}
    settings |= {"epochs": 4, "lr": 1e-2, "ema_decay": 0.9, **given}
    return start_run(catalogue, resolve_options(catalogue, settings, None, None), path, watch)


@pytest.fixture(scope="module")
def marks(catalogue: Catalogue, table: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished multi-label run; not to be changed."""
    return train(catalogue, table, tmp_path_factory.mktemp("runs") / "marks")


@pytest.fixture(scope="module")
def onnx_of_marks(catalogue: Catalogue, marks: Run) -> Artifact:
    artifact, manifest = export_run(catalogue, marks, ExportSpec(format="onnx"))
    assert manifest.report.accepted, manifest.report.reasons
    return artifact


@pytest.fixture(scope="module")
def val_scores(catalogue: Catalogue, marks: Run) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities of the validation images."""
    trained = load_trained(catalogue, marks)
    split = trained.data.splits["val"]
    return split.labels, probabilities(eager(trained.shipped), split, trained.preprocess)


def test_it_learns(marks: Run) -> None:
    record = marks.record()
    assert record.multi_label
    assert record.classes == MARKS
    assert record.metrics["test"]["map"] > 0.9
    assert record.metrics["test"]["exact"] > 0.8


def test_its_lines_say_what_was_measured(marks: Run) -> None:
    lines = [json.loads(line) for line in marks.metrics_file.read_text().splitlines()]
    wanted = ["epoch", "lr", "train_loss", "train_exact", "val_loss", "val_map", "val_exact"]
    assert list(lines[0]) == [*wanted, "best"]
    best = [line for line in lines if line["best"]][-1]
    assert max(line["val_map"] for line in lines) == best["val_map"]
    assert marks.record().metrics["best_val_map"] == best["val_map"]
    rivals = [line["val_loss"] for line in lines if line["val_map"] == best["val_map"]]
    assert best["val_loss"] == min(rivals)


def test_its_figures_are_those_of_scikit_learn(marks: Run, val_scores: tuple[np.ndarray, np.ndarray]) -> None:
    labels, scores = val_scores
    record = marks.record()
    said = scores >= np.array([record.thresholds[name] for name in MARKS])
    found = record.metrics["val"]
    assert found["map"] == pytest.approx(average_precision_score(labels, scores), abs=1e-6)
    assert found["micro_f1"] == pytest.approx(f1_score(labels, said, average="micro"))
    assert found["macro_f1"] == pytest.approx(f1_score(labels, said, average="macro"))
    assert found["exact"] == (said == labels).all(1).mean()
    assert found["per_class"]["dot"]["f1"] == pytest.approx(f1_score(labels[:, 2], said[:, 2]))
    assert found["per_class"]["dot"]["threshold"] == record.thresholds["dot"]
    assert found["per_class"]["dot"]["images"] == labels[:, 2].sum()
    wanted = torch.nn.functional.binary_cross_entropy(torch.tensor(scores), torch.tensor(labels).float())
    assert found["loss"] == pytest.approx(float(wanted), abs=1e-5)


def test_a_label_that_no_image_has_is_left_out_and_named() -> None:
    labels = np.array([[1, 0], [0, 0]], np.uint8)
    found = label_metrics(labels, np.array([[0.9, 0.1], [0.2, 0.6]], np.float32), ("a", "b"), np.full(2, 0.5))
    assert found["map"] == found["macro_f1"] == 1.0
    assert found["without_images"] == ["b"]
    assert found["per_class"]["b"]["ap"] is None
    assert found["exact"] == 0.5


@pytest.mark.parametrize(
    ("precision", "suffix"),
    [
        pytest.param("int8", "onnx", marks=pytest.mark.slow),
        ("fp32", "onnx"),
        pytest.param("fp32", "torchscript", marks=pytest.mark.slow),
    ],
)
def test_an_artifact_is_proven_and_answers(
    catalogue: Catalogue, marks: Run, onnx_of_marks: Artifact, tmp_path: Path, precision: str, suffix: str
) -> None:
    spec = ExportSpec(format=suffix, precision=precision, max_drop=5, min_speedup=0)
    artifact, manifest = export_run(catalogue, marks, spec)
    report = manifest.report
    assert report.accepted, report.reasons
    assert manifest.multi_label
    assert manifest.thresholds == marks.record().thresholds
    assert report.reference_top1 == marks.record().metrics["val"]["exact"]
    assert report.reference_map == pytest.approx(marks.record().metrics["val"]["map"], abs=1e-6)
    assert report.reference_map is not None
    assert report.artifact_map is not None
    assert report.map_drop == pytest.approx(100 * (report.reference_map - report.artifact_map))
    assert set(report.per_class) == set(MARKS)
    golden = artifact.golden()
    assert golden.labels.shape == (16, 3)
    assert golden.labels.any(0).all()
    assert not np.allclose(golden.artifact.sum(1), 1, atol=0.05)
    result = verify_artifact(catalogue, artifact, golden_only=False, note=print)
    assert result.problems == ()
    draw(np.array([True, False, True]), np.random.default_rng(5)).save(tmp_path / "both.png")
    (answer,) = predict_images(catalogue, artifact, [tmp_path / "both.png"], top=1)
    assert answer.labels is not None
    assert {name for name, _ in answer.labels} == {"red", "dot"}


def test_verify_finds_a_map_that_was_written_by_hand(catalogue: Catalogue, onnx_of_marks: Artifact) -> None:
    file = onnx_of_marks.path / "artifact.json"
    before = file.read_text()
    manifest = json.loads(before)
    manifest["report"]["artifact_map"] = 0.5
    file.write_text(json.dumps(manifest))
    result = verify_artifact(catalogue, onnx_of_marks, golden_only=False, note=print)
    file.write_text(before)
    assert any("artifact_map" in problem for problem in result.problems)


def test_every_command_tells_of_labels(cli: Callable[..., Answer], onnx_of_marks: Artifact, tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    for name, of_it in (("all", [True] * 3), ("none", [False] * 3)):
        draw(np.array(of_it), rng).save(tmp_path / f"{name}.png")
    run = onnx_of_marks.path.parent.parent
    for subject in (onnx_of_marks.path, run):
        found = json.loads(cli("eval", subject, "--json").stdout)
        assert found["map"] > 0.9
        assert "top1" not in found
        assert "confusion" not in found
        told = cli("eval", subject).stdout
        assert "mAP" in told
        assert "threshold" in told
        assert "top-1" not in told
        answers = json.loads(cli("predict", "all.png", "none.png", "--using", subject, "--json").stdout)["predictions"]
        assert {one["class"] for one in answers[0]["labels"]} == set(MARKS)
        assert answers[1]["labels"] == []
        assert len(answers[1]["top"]) == 3
        told = cli("predict", "all.png", "none.png", "--using", subject).stdout
        assert "none" in told.splitlines()[-2]
    for command in (["verify", onnx_of_marks.path], ["export", run, "--onnx"]):
        told = cli(*command).stdout
        assert "exact match, this file" in told
        assert "drop of mAP" in told
    for kind, path in (("run", run), ("artifact", onnx_of_marks.path)):
        assert json.loads(cli("show", kind, path, "--json").stdout)["thresholds"].keys() == set(MARKS)


def test_names_in_one_cell_train_as_well(cli: Callable[..., Answer], table: Path) -> None:
    command = ["train", "test_resnet", "--dataset", "csv", "--dataset-option", f"file={table}", "--epochs", 1, *SMALL]
    options = ["--dataset-option", "label=names", "--dataset-option", "separator=;"]
    # An image without marks has an empty cell, which a table of names does not allow.
    rows = [line for line in table.read_text().splitlines() if ",," not in line]
    (table.parent / "named.csv").write_text("\n".join(rows))
    command[5] = f"file={table.parent / 'named.csv'}"
    answer = cli(*command, *options, "--name", "n")
    assert answer.code == 0, answer.stderr
    assert "mAP" in answer.stdout
    assert "exact match" in answer.stderr
    assert "top-1" not in answer.stdout + answer.stderr


def test_its_page_has_labels_and_no_confusion(marks: Run) -> None:
    words: list[str] = []

    class Reader(html.parser.HTMLParser):
        def handle_data(self, data: str) -> None:
            words.append(data)

    page = marks.report_file.read_text()
    Reader().feed(page)
    test = marks.record().metrics["test"]
    assert f"{100 * test['map']:.2f} % mAP" in words
    assert f"{test['per_class']['dot']['threshold']:.3f}" in words
    assert {"AP", "precision", "recall", "F1", "threshold", "mAP, %", "exact match, %"} <= set(words)
    assert "taken for" not in page
    assert "top-1" not in page


def test_a_run_and_an_artifact_without_thresholds_have_the_usual_one(marks: Run, onnx_of_marks: Artifact) -> None:
    for described in (marks.record(), onnx_of_marks.manifest()):
        plain = described.model_copy(update={"thresholds": {}})
        assert np.array_equal(thresholds_of(plain), np.full(3, 0.5))  # type: ignore[arg-type]
        assert thresholds_of(plain.model_copy(update={"multi_label": False})) is None


def test_a_label_that_no_training_image_has_is_refused(
    cli: Callable[..., Answer], catalogue: Catalogue, table: Path, tmp_path: Path
) -> None:
    lines = [line.split(",") for line in table.read_text().splitlines()]
    column = lines[0].index("dot")
    text = "\n".join(
        ",".join([*line[:column], "0" if n else "dot", *line[column + 1 :]]) for n, line in enumerate(lines)
    )
    (table.parent / "nodots.csv").write_text(text)
    options = [
        "--dataset-option",
        f"file={table.parent / 'nodots.csv'}",
        "--dataset-option",
        f"label={OPTIONS['label']}",
    ]
    answer = cli("train", "test_resnet", "--dataset", "csv", *options, *SMALL)
    assert answer.code == 1
    assert "'dot'" in answer.error


class Notes(Watch):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def test_a_label_that_no_val_image_has_is_told_and_keeps_its_threshold(
    catalogue: Catalogue, table: Path, tmp_path: Path
) -> None:
    lines = table.read_text().splitlines()
    kept = [line for line in lines if not (line.endswith("val") and line.split(",")[4] == "1")]
    (table.parent / "nodotsinval.csv").write_text("\n".join(kept))
    watch = Notes()
    run = train(catalogue, table.parent / "nodotsinval.csv", tmp_path / "run", watch, epochs=1)
    assert any("'dot'" in text and "mAP leaves it out" in text for text in watch.texts)
    assert run.record().thresholds["dot"] == 0.5
    assert run.record().metrics["val"]["without_images"] == ["dot"]
    assert "'dot'" not in json.dumps(run.record().metrics["test"]["without_images"])


def test_smoothing_goes_towards_one_half_as_in_timm() -> None:
    logits, target = torch.randn(5, 3), torch.randint(0, 2, (5, 3)).float()
    weights = torch.tensor([1.0, 2.0, 5.0])
    loss = make_task(3, multi_label=True, smoothing=0.2, weights=weights).loss(logits, target)
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(logits, target * 0.8 + 0.1, pos_weight=weights)
    assert torch.allclose(loss, wanted)
    if "smooth_dense" in inspect.signature(BinaryCrossEntropy).parameters:
        theirs = BinaryCrossEntropy(smoothing=0.2, pos_weight=weights, smooth_dense=True)
        assert torch.allclose(loss, theirs(logits, target))


@mixes_labels
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_it_trains_in_either_precision(catalogue: Catalogue, table: Path, tmp_path: Path, precision: str) -> None:
    run = train(catalogue, table, tmp_path / "run", epochs=1, precision=precision, device="cpu", mixup=0.3)
    assert np.isfinite(run.record().metrics["val"]["loss"])
